#![doc = include_str!("../README.md")]

mod address;
mod bridge;
mod builder;
mod codec;
mod config;
mod connect;
mod connection;
mod consumer;
mod core_consumer;
mod durable;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod jetstream;
mod options;
mod pull_consumer;
mod reader;
mod releases;
mod replies;
mod room;
mod streams;
mod subscription;
mod supervisor;
mod transport;

pub use bridge::NatsBridge;
pub use builder::NatsBridgeBuilder;
pub use config::JetStreamConfig;
