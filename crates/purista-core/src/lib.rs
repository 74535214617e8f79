//! The contract of PURISTA event bridges.

pub mod adapter;
mod bridge;
mod bridge_ext;
mod capability;
mod error;
mod events;
mod grant;
mod handler;
mod health;
mod matcher;
mod message;
mod options;
pub mod routing;
mod service;
mod stats;
mod status;
mod trace;

pub use bridge::{EventBridge, Registration, ShutdownReport, Unregister};
pub use bridge_ext::EventBridgeExt;
pub use capability::{Capabilities, Capability};
pub use error::{Error, ErrorKind, HandledError, HandlerError, InvokeError, Result};
pub use events::{BridgeEvent, BridgeEvents};
pub use grant::{DEFAULT_CONCURRENCY, Granted, MAX_CONCURRENCY};
pub use handler::{CommandHandler, Context, SubscriptionHandler};
pub use health::{BridgeState, Health};
pub use matcher::{Filter, FilterIndex, PartyFilter};
pub use message::{
    Body, CommandDraft, ErrorPayload, EventDraft, Id, MAX_DEPTH, Message, MessageType, Name, Payload, Receiver,
    Sender, ServiceAddress,
};
pub use options::{
    Acknowledge, Command, CommandOptions, EmitOptions, InvokeOptions, MAX_TIMEOUT, RetryPolicy, Sharing,
    Subscription, SubscriptionOptions,
};
pub use service::Service;
pub use stats::Stats;
pub use status::StatusCode;
pub use trace::TraceContext;
