#![doc = include_str!("../README.md")]

mod connect;
#[cfg(feature = "http")]
mod observe;
pub mod prelude;
mod run;
mod systems;

pub use connect::{connect, from_env};
#[cfg(feature = "http")]
pub use observe::{Observer, observe};
pub use run::{DRAIN_TIME, RunReport, end_signal, run, run_until};

#[doc(inline)]
pub use purista_core::{
    Acknowledge, Body, BridgeEvent, BridgeEvents, BridgeState, Call, Capabilities, Capability, Command,
    CommandDraft, CommandHandler, CommandOptions, Context, Credentials, DEFAULT_CONCURRENCY, Emission,
    EmitOptions, Error, ErrorKind, ErrorPayload, EventBridge, EventBridgeExt, EventDraft, Filter,
    FilterIndex, Granted, HandledError, HandlerError, Health, Id, InvokeError, InvokeOptions,
    MAX_CONCURRENCY, MAX_DEPTH, MAX_TIMEOUT, Message, MessageType, Name, PartyFilter, Payload, Receiver,
    Registration, Result, RetryPolicy, Sender, Service, ServiceAddress, Sharing, ShutdownReport, Stats,
    StatusCode, Subscription, SubscriptionHandler, SubscriptionOptions, TraceContext,
};

/// The bridge for RabbitMQ, to configure it in code.
#[cfg(feature = "amqp")]
pub use purista_amqp as amqp;
/// The contract of bridges in whole, with what authors of adapters need.
pub use purista_core as core;
/// The bridge for Dapr sidecars, to configure it in code.
#[cfg(feature = "dapr")]
pub use purista_dapr as dapr;
/// The bridge within one process, to configure it in code, and for tests.
pub use purista_default as in_process;
/// The bridge for MQTT 5 brokers, to configure it in code.
#[cfg(feature = "mqtt")]
pub use purista_mqtt as mqtt;
/// The bridge for NATS and JetStream, to configure it in code.
#[cfg(feature = "nats")]
pub use purista_nats as nats;

/// Tests the example of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
