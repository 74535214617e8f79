#![doc = include_str!("../README.md")]

mod address;
mod bridge;
mod builder;
mod codec;
mod config;
mod connect;
mod connection;
mod consumer;
mod consuming;
mod core_consumer;
mod durable;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod healing;
mod jetstream;
mod leased;
mod limits;
mod merge;
mod options;
mod provided;
mod pull_consumer;
mod pull_deliveries;
mod pull_requests;
mod pull_state;
mod pull_status;
mod reader;
mod refusal;
mod refusals;
mod releases;
mod replies;
mod restoring;
mod room;
mod routes;
mod streams;
mod subscription;
mod supervisor;
mod transport;

pub use bridge::NatsBridge;
pub use builder::NatsBridgeBuilder;
pub use config::JetStreamConfig;
