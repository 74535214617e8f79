#![doc = include_str!("../README.md")]

mod bridge;
mod builder;
mod group;
mod hub;
mod letters;
mod routes;
mod transport;

pub use bridge::DefaultEventBridge;
pub use builder::DefaultEventBridgeBuilder;
pub use hub::{Hub, HubConfig, HubReport};
