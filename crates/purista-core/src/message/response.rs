use serde::{Deserialize, Deserializer, Serialize};

use super::{Body, CONTENT_ENCODING, CONTENT_TYPE, Id, Message, Name, Payload, Receiver, Sender, now};
use crate::{
    error::{Error, HandledError},
    status::StatusCode,
};

/// The payload of a command's error response (wire format, section 1).
///
/// Take this type as the input of a subscription to
/// [`CommandErrorResponse`](super::MessageType::CommandErrorResponse) messages.
///
/// ```
/// use purista_core::{Context, ErrorPayload, Filter, MessageType, Service};
///
/// let audit = Service::new("Audit", "1").subscription(
///     "errors",
///     Filter::message_type(MessageType::CommandErrorResponse),
///     |_: Context, error: ErrorPayload| async move {
///         println!("{}: {}", error.status, error.message);
///         Ok(())
///     },
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ErrorPayload {
    /// The status code.
    pub status: StatusCode,
    /// The message: the service's own for a handled error, the generic text of the status for any other.
    pub message: String,
    /// What the service adds to a handled error.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Payload>,
    /// The application's trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Id>,
}

/// Keeps `null` apart from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Payload>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl Message {
    /// Makes the answer to this command that carries its result.
    pub(crate) fn success(
        &self,
        instance_id: &Id,
        event_name: Option<Name>,
        result: Option<Payload>,
    ) -> Self {
        self.answer(instance_id, event_name, |_| Body::CommandSuccessResponse(result))
    }

    /// Makes the answer to this command that carries a handled error.
    pub(crate) fn handled_error(&self, instance_id: &Id, error: &HandledError) -> Self {
        self.error(instance_id, true, error.status(), error.message().to_owned(), error.data().cloned())
    }

    /// Makes the answer to this command that tells of a failure and nothing of its cause.
    pub(crate) fn unhandled_error(&self, instance_id: &Id, status: StatusCode) -> Self {
        self.error(instance_id, false, status, status.reason().to_owned(), None)
    }

    /// Makes the answer to this command which says that no instance can take it now; for adapters.
    #[must_use]
    pub fn unavailable(&self, instance_id: &Id) -> Self {
        self.unhandled_error(instance_id, StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Makes of this answer the one which says that it was too large; for adapters that learn from their broker how much
    /// it takes.
    #[must_use]
    pub fn too_large(&self) -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        let error = ErrorPayload {
            status,
            message: status.reason().to_owned(),
            data: None,
            trace_id: self.trace_id.clone(),
        };
        let body = Body::CommandErrorResponse { handled: false, payload: Payload::json(&error).ok() };
        Self { body, event_name: None, timestamp: now(), ..self.clone() }
    }

    /// Makes the answer to this command which says that the instance that it is for is not to be found here.
    pub(crate) fn not_here(&self, instance_id: &Id) -> Self {
        self.unhandled_error(instance_id, StatusCode::MISDIRECTED_REQUEST)
    }

    /// Returns whether this is the answer that [`not_here`](Self::not_here) makes.
    pub(crate) fn says_not_here(&self) -> bool {
        let says_so = |error: ErrorPayload| error.status == StatusCode::MISDIRECTED_REQUEST;
        matches!(self.body, Body::CommandErrorResponse { handled: false, .. })
            && self.error_payload().is_ok_and(says_so)
    }

    /// Makes the frame that tells whoever opens a stream that there are none yet; `None` if this opens none.
    pub(crate) fn refused_stream(&self, instance_id: &Id) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Frame {
            frame_type: String,
        }
        let opens = |frame: Frame| frame.frame_type == "open";
        if !self.payload()?.deserialize().is_ok_and(opens) {
            return None;
        }
        let status = StatusCode::NOT_IMPLEMENTED;
        Some(self.answer(instance_id, None, |trace_id| {
            Body::Stream(
                Payload::json(&serde_json::json!({
                    "frameType": "error",
                    "sequence": 0,
                    "error": {
                        "status": status,
                        "message": "this service has no streams yet",
                        "isHandledError": false,
                        "traceId": trace_id,
                    },
                }))
                .ok(),
            )
        }))
    }

    fn error(
        &self,
        instance_id: &Id,
        handled: bool,
        status: StatusCode,
        message: String,
        data: Option<Payload>,
    ) -> Self {
        self.answer(instance_id, None, |trace_id| {
            let error = ErrorPayload { status, message, data, trace_id: Some(trace_id.clone()) };
            let bare = || Payload::json(&ErrorPayload { data: None, ..error.clone() }).ok();
            // Data at the limit of depth is one level too deep in here.
            let payload = Payload::json(&error).ok().or_else(bare);
            Body::CommandErrorResponse { handled, payload }
        })
    }

    fn answer(&self, instance_id: &Id, event_name: Option<Name>, body: impl FnOnce(&Id) -> Body) -> Self {
        let trace_id = self.trace_id.clone().unwrap_or_else(Id::random);
        let address = match &self.receiver {
            Some(receiver) => receiver.address.clone(),
            None => self.sender.address.clone(),
        };
        let body = body(&trace_id);
        Self {
            id: self.id.clone(),
            timestamp: now(),
            content_type: CONTENT_TYPE,
            content_encoding: CONTENT_ENCODING,
            trace_id: Some(trace_id),
            correlation_id: self.correlation_id.clone(),
            principal_id: self.principal_id.clone(),
            tenant_id: self.tenant_id.clone(),
            event_name,
            trace_context: self.trace_context.next(),
            sender: Sender::new(address, instance_id.clone()),
            receiver: Some(Receiver {
                address: self.sender.address.clone(),
                instance_id: Some(self.sender.instance_id.clone()),
            }),
            body,
        }
    }

    /// Reads the error that an error response carries.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage) if the message carries none.
    pub fn error_payload(&self) -> Result<ErrorPayload, Error> {
        match (&self.body, self.payload()) {
            (Body::CommandErrorResponse { .. }, Some(payload)) => payload.deserialize(),
            _ => Err(Error::invalid_message("the message carries no error")),
        }
    }
}
