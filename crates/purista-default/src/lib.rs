#![doc = include_str!("../README.md")]

mod bridge;
mod builder;
mod group;
mod hub;
mod routes;
mod transport;

pub use bridge::DefaultEventBridge;
pub use builder::DefaultEventBridgeBuilder;
pub use hub::{Hub, HubConfig, HubReport};

/// Tests the example of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
