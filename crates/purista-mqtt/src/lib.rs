#![doc = include_str!("../README.md")]

mod acknowledgement;
mod address;
mod adoption;
mod asking;
mod attach;
mod bridge;
mod broker_limits;
mod builder;
mod codec;
mod command_consumer;
mod config;
mod connection;
mod consumer;
mod end_marker;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hand_over;
mod options;
mod packet_size;
mod polling;
mod puback;
mod publishing;
mod round_trips;
mod router;
mod routes;
mod session;
mod session_record;
mod settling;
mod socket;
mod standing;
mod subscribing;
mod subscription_consumer;
mod tapped;
mod transport;
mod watch;
mod web_socket;
mod window;

pub use bridge::MqttBridge;
pub use builder::MqttBridgeBuilder;
