//! The envelope: what travels over a bridge.

mod address;
mod draft;
mod finite;
mod id;
mod message_type;
mod misfit;
mod name;
mod own;
mod payload;
mod response;
mod text;
mod unread;
mod wire;

pub use address::{Receiver, Sender, ServiceAddress};
pub use draft::{CommandDraft, EventDraft};
pub use id::Id;
pub use message_type::MessageType;
pub(crate) use misfit::{Misfit, fit};
pub use name::Name;
pub use payload::{MAX_DEPTH, Payload};
pub use response::ErrorPayload;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::trace::TraceContext;

pub(crate) const CONTENT_TYPE: Name = Name::from_static("application/json");
pub(crate) const CONTENT_ENCODING: Name = Name::from_static("utf-8");

/// A message as it travels: stamped by the bridge that sent it, shared by all who receive it, never changed.
///
/// Made from a draft by a bridge, or decoded from the wire with [`Message::decode`]. Follows the wire format,
/// section 1.
///
/// ```
/// use purista_core::{EventBridge as _, EventBridgeExt as _, Message, MessageType};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.start().await?;
/// let sent = bridge.emit("userRegistered", "Ada").await?;
/// assert_eq!(sent.message_type(), MessageType::CustomMessage);
/// assert_eq!(sent.event_name.as_deref(), Some("userRegistered"));
/// assert_eq!(sent.sender.instance_id, *bridge.instance_id());
/// assert_eq!(Message::decode(sent.encode())?, *sent);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The id of this message. A response has that of its command.
    pub id: Id,
    /// When it was sent, in milliseconds since the Unix epoch, by the clock of the sender's machine.
    pub timestamp: u64,
    /// Media type of the payload, `application/json` unless a foreign peer says otherwise.
    pub content_type: Name,
    /// Character encoding of the payload, `utf-8` unless a foreign peer says otherwise.
    pub content_encoding: Name,
    /// The application's trace id, unrelated to the one of [`TraceContext`].
    pub trace_id: Option<Id>,
    /// Ties a response to its command.
    pub correlation_id: Option<Id>,
    /// On whose behalf it was sent.
    pub principal_id: Option<Name>,
    /// To which tenant it belongs.
    pub tenant_id: Option<Name>,
    /// The name of the event it announces.
    pub event_name: Option<Name>,
    /// The distributed trace it is part of.
    pub trace_context: TraceContext,
    /// Who sent it.
    pub sender: Sender,
    /// Whom it is for.
    pub receiver: Option<Receiver>,
    /// What it says.
    pub body: Body,
}

/// What a message says, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// A command.
    #[non_exhaustive]
    Command {
        /// The input.
        payload: Option<Payload>,
        /// The optional second input.
        parameter: Option<Payload>,
    },
    /// The answer of a command that succeeded: its result.
    CommandSuccessResponse(Option<Payload>),
    /// The answer of a command that failed.
    #[non_exhaustive]
    CommandErrorResponse {
        /// Whether the service meant the caller to see this error.
        handled: bool,
        /// The error as JSON, see [`ErrorPayload`].
        payload: Option<Payload>,
    },
    /// An event or any other message of a service.
    CustomMessage(Option<Payload>),
    /// A frame of a stream: its type is the field `frameType` of the payload.
    Stream(Option<Payload>),
    /// One of the `info…` messages.
    Info(MessageType, Option<Payload>),
}

impl Message {
    /// Returns the type.
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        match &self.body {
            Body::Command { .. } => MessageType::Command,
            Body::CommandSuccessResponse(_) => MessageType::CommandSuccessResponse,
            Body::CommandErrorResponse { .. } => MessageType::CommandErrorResponse,
            Body::CustomMessage(_) => MessageType::CustomMessage,
            Body::Stream(_) => MessageType::Stream,
            Body::Info(info, _) => *info,
        }
    }

    /// Returns the payload: a command's input, a response's result or error, an event's content.
    #[must_use]
    pub const fn payload(&self) -> Option<&Payload> {
        match &self.body {
            Body::Command { payload, .. }
            | Body::CommandErrorResponse { payload, .. }
            | Body::CommandSuccessResponse(payload)
            | Body::CustomMessage(payload)
            | Body::Stream(payload)
            | Body::Info(_, payload) => payload.as_ref(),
        }
    }

    /// Returns the second input of a command.
    #[must_use]
    pub const fn parameter(&self) -> Option<&Payload> {
        match &self.body {
            Body::Command { parameter, .. } => parameter.as_ref(),
            _ => None,
        }
    }

    /// Returns the bytes that the payload and the parameter have together.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload().map_or(0, Payload::len) + self.parameter().map_or(0, Payload::len)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
