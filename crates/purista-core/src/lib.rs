//! The contract of PURISTA event bridges, and the kit that adapters are built with.
//!
//! PURISTA builds back ends from small services: *commands* (request and reply, one instance answers), *events* and
//! *subscriptions* (any number of consumers, chosen by content). Everything travels as one kind of message over an
//! **event bridge**, and only the bridge knows the message broker: to change the broker, change the line that builds
//! the bridge.
//!
//! ```
//! use purista_core::{Context, EventBridge as _, EventBridgeExt as _, Filter, HandledError, Service};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct User {
//!     email: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let users = Service::new("User", "1").command("signUp", |ctx: Context, user: User| async move {
//!     if user.email.is_empty() {
//!         return Err(HandledError::bad_request("e-mail is missing").into());
//!     }
//!     ctx.emit("userRegistered", &user).await?;
//!     Ok(user)
//! });
//! let mails = Service::new("Mail", "1").subscription(
//!     "welcome",
//!     Filter::event("userRegistered"),
//!     |_ctx: Context, user: User| async move {
//!         println!("a mail to {}", user.email);
//!         Ok(())
//!     },
//! );
//!
//! let bridge = purista_default::DefaultEventBridge::builder().build()?; // the one line that names the broker
//! bridge.serve([users, mails]).await?;
//! let user = User { email: "ada@example.com".to_owned() };
//! let user: User = bridge.invoke(("User", "1", "signUp"), &user).await?;
//! bridge.shutdown(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where to find what
//!
//! | for | see |
//! |---|---|
//! | declaring services | [`Service`], [`Context`], [`CommandOptions`], [`SubscriptionOptions`] |
//! | calling and emitting | [`EventBridgeExt`], [`Call`], [`Emission`], [`EventBridge`] with whole messages |
//! | what holds on every broker | the contract of [`EventBridge`], [`Capabilities`] |
//! | what can go wrong | [`Error`], [`InvokeError`], [`HandledError`], [`HandlerError`] |
//! | subscribing by content | [`Filter`], and [`FilterIndex`] to find many at once |
//! | the envelope | [`Message`], [`Payload`], [`TraceContext`] |
//! | watching a bridge | [`Health`], [`BridgeEvents`], [`Stats`] |
//! | what could not be handled | [`DeadLetters`]: listed, sent again, given up |
//! | authenticating with a broker | [`Credentials`] that a provider returns |
//! | writing an adapter | [`adapter`], [`routing`] |
//!
//! Spans and logs go through `tracing` with OpenTelemetry's names for messaging, counters through the `metrics` facade.

pub mod adapter;
mod bridge;
mod bridge_ext;
mod call;
mod capability;
mod causes;
mod dead_letters;
mod durations;
mod emission;
mod error;
mod events;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
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

pub use adapter::{Credentials, DeadLetter};
pub use bridge::{EventBridge, Registration, RegistrationControl, ShutdownReport};
pub use bridge_ext::EventBridgeExt;
pub use call::Call;
pub use capability::{Capabilities, Capability};
pub use dead_letters::{
    DeadLetterFilter, DeadLetterId, DeadLetterPage, DeadLetters, KeptDeadLetter, RedriveOptions,
    RedriveReport,
};
pub use emission::Emission;
pub use error::{Error, ErrorKind, HandledError, HandlerError, InvokeError, Result};
pub use events::{BridgeEvent, BridgeEvents};
pub use grant::{DEFAULT_CONCURRENCY, Granted, MAX_CONCURRENCY};
pub use handler::{CommandHandler, Context, SubscriptionHandler};
pub use health::{BridgeState, Health};
pub use matcher::{Filter, FilterIndex, PartyFilter};
pub use message::{
    Body, CommandDraft, ErrorPayload, EventDraft, Id, MAX_DEPTH, Message, MessageType, Name, Payload,
    Receiver, Sender, ServiceAddress,
};
pub use options::{
    Acknowledge, Command, CommandOptions, EmitOptions, InvokeOptions, MAX_TIMEOUT, RetryPolicy, Sharing,
    Subscription, SubscriptionOptions,
};
pub use service::Service;
pub use stats::Stats;
pub use status::StatusCode;
pub use trace::TraceContext;
