#![doc = include_str!("../README.md")]

mod abandoned;
mod address;
mod app_channel;
mod bridge;
mod builder;
mod cloud_event;
mod codec;
mod component;
mod component_health;
mod config;
mod connection;
mod consumer;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod routes;
mod session;
mod sidecar;
mod transport;

pub use bridge::DaprBridge;
pub use builder::DaprBridgeBuilder;
