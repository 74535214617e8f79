//! The kit for authors of adapters: everything but the mapping onto a broker.
//!
//! An adapter implements [`Transport`], which maps messages onto its broker, and wraps an [`Engine`], which has all the
//! rest: time limits, pending calls, dispatch with limits, retry and dead letters, drain, health and counters.

mod attempt;
mod backlog;
mod backoff;
mod beside;
mod builder;
mod config;
mod connection_config;
mod connectivity;
mod consumer_task;
mod credentials;
mod dead_letter;
mod dispatch;
mod engine;
mod gate;
mod given;
mod intake;
mod leases;
mod lifecycle;
mod limits;
mod link;
mod live;
mod pending;
mod reconnect;
mod redelivery;
mod registered;
mod registration;
mod runtime;
mod servers;
mod shutdown;
mod spans;
mod sync;
mod throttle;
mod time_limit;
mod tls_files;
mod transport;
mod url_option;
mod variables;
mod waiting_room;

pub use crate::causes::{causes, is_closed};
pub use async_trait::async_trait;
pub use backlog::{Backlog, Pushed};
pub use backoff::Backoff;
pub use config::EngineConfig;
pub use connection_config::ConnectionConfig;
pub use connectivity::{Connectivity, Restore};
pub use consumer_task::{ConsumerTask, StopSignal};
pub use credentials::{Credentials, CredentialsProvider};
pub use dead_letter::DeadLetter;
pub use engine::Engine;
pub use gate::{Gate, Pass};
pub use given::{ACKNOWLEDGING, CONNECTION, ROUTING};
pub use intake::{Busy, Intake, Slot};
pub use link::Link;
pub use live::Live;
pub use pending::{PendingCall, PendingCalls, ResponseVerdict};
pub use reconnect::{Reconnect, keep_connected};
pub use servers::{Attempts, Parameters, ServerList, ServerUrl, UrlOptions, UrlScheme, UserInfo};
pub use throttle::Throttle;
pub use time_limit::{deadline_after, milliseconds_left, whole_milliseconds, whole_seconds};
pub use tls_files::TlsFiles;
pub use transport::{Acknowledgement, Consumer, Delivery, Publish, Stop, Transport};
pub use url_option::{OptionText, UrlOption, UrlValue};
pub use variables::Variables;
