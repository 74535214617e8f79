#![doc = include_str!("../README.md")]

mod acks;
mod address;
mod attach;
mod audit;
mod bridge;
mod builder;
mod channels;
mod codec;
mod config;
mod connect;
mod connection;
mod consumer;
mod delivery;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod letters;
mod native;
mod options;
mod outlet;
mod publisher;
mod queue_consumer;
mod registration;
mod replies;
mod session;
mod source;
mod topology;
mod transport;
mod trust;
mod turn;
mod typescript;
mod watch;

pub use bridge::AmqpBridge;
pub use builder::AmqpBridgeBuilder;
pub use config::QueueType;
