//! Messages as CloudEvents (wire format, section 6), in structured content mode.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use purista_core::{Message, adapter::DeadLetter};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::numbers;

/// The media type of a CloudEvent in structured content mode: attributes and data are one JSON object.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The attribute with what a dead letter tells beside the original.
pub const DEAD_LETTER: &str = "puristadeadletter";

/// A CloudEvent that is written: its attributes, to which the data comes at last.
///
/// ```
/// use purista_cloudevents::{CloudEvent, event_id};
/// use purista_core::{EventDraft, Id, Payload, ServiceAddress};
///
/// let draft = EventDraft::event(ServiceAddress::new("User", "1", "signUp"), "userCreated");
/// let message = draft.with_payload(Payload::json(&7)?).stamp(&Id::from("instance"));
/// let event = CloudEvent::new(event_id(&message), "purista.customMessage", "app-user-v1")
///     .with_attribute("topic", "userCreated")
///     .with_message(&message, &message.encode());
/// assert!(event.starts_with(br#"{"specversion":"1.0","id":""#));
/// # Ok::<(), purista_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CloudEvent<'a>(Vec<(&'static str, Cow<'a, str>)>);

/// Returns the id of a message's CloudEvent: some brokers drop what comes twice with one id, and an answer has the id of
/// its command.
#[must_use]
pub fn event_id(message: &Message) -> String {
    format!("{}-{}", message.id, message.message_type().as_str())
}

/// Returns the fields by which messages are routed, under the names that they have as attributes.
pub(crate) fn routing_fields(message: &Message) -> [(&'static str, Option<Cow<'_, str>>); 12] {
    let (sender, receiver) = (&message.sender, message.receiver.as_ref());
    let text = |name| Some(Cow::Borrowed(name));
    let instance_id = receiver.and_then(|receiver| receiver.instance_id.as_ref());
    [
        ("messagetype", text(message.message_type().as_str())),
        ("principalid", message.principal_id.as_deref().and_then(text)),
        ("tenantid", message.tenant_id.as_deref().and_then(text)),
        ("eventname", message.event_name.as_deref().and_then(text)),
        ("senderservice", text(&sender.address.service_name)),
        ("senderversion", text(&sender.address.service_version)),
        ("sendertarget", text(&sender.address.service_target)),
        ("senderinstance", Some(sender.instance_id.to_string().into())),
        ("receiverservice", receiver.and_then(|receiver| text(&receiver.address.service_name))),
        ("receiverversion", receiver.and_then(|receiver| text(&receiver.address.service_version))),
        ("receivertarget", receiver.and_then(|receiver| text(&receiver.address.service_target))),
        ("receiverinstance", instance_id.map(|id| id.to_string().into())),
    ]
}

impl<'a> CloudEvent<'a> {
    /// Creates one with the attributes that each CloudEvent has. Its data will be JSON.
    #[must_use]
    pub fn new(id: impl Into<Cow<'a, str>>, kind: impl Into<Cow<'a, str>>, source: &'a str) -> Self {
        Self(vec![
            ("specversion", "1.0".into()),
            ("id", id.into()),
            ("source", source.into()),
            ("type", kind.into()),
            ("datacontenttype", "application/json".into()),
        ])
    }

    /// Adds an attribute, whose name has lower-case letters and digits only.
    #[must_use]
    pub fn with_attribute(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// Adds the fields by which a message is routed and its trace context, and ends with its bytes as they are: as JSON,
    /// or in Base64 if a reader with 64-bit floating-point numbers cannot read its numbers.
    #[must_use]
    pub fn with_message(mut self, message: &'a Message, envelope: &[u8]) -> Bytes {
        for (name, value) in routing_fields(message) {
            self.0.extend(value.map(|value| (name, value)));
        }
        if let Some(traceparent) = message.trace_context.traceparent() {
            self = self.with_attribute("traceparent", traceparent);
        }
        match numbers::are_readable(envelope) {
            true => self.with_data("data", envelope),
            false => self.with_data("data_base64", &base64(envelope)),
        }
    }

    /// Ends with what a dead letter tells and with its original, in Base64.
    #[must_use]
    pub fn with_dead_letter(self, letter: &DeadLetter) -> Bytes {
        let event = self.with_attribute(DEAD_LETTER, letter.metadata());
        event.with_data("data_base64", &base64(&letter.original))
    }

    fn with_data(self, name: &str, data: &[u8]) -> Bytes {
        // Text always has a form in JSON.
        let mut event = serde_json::to_vec(&Attributes(self.0)).unwrap_or_default();
        event.pop();
        event.extend_from_slice(b",\"");
        event.extend_from_slice(name.as_bytes());
        event.extend_from_slice(b"\":");
        event.extend_from_slice(data);
        event.push(b'}');
        event.into()
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    format!("\"{}\"", BASE64_STANDARD.encode(bytes)).into()
}

/// The attributes of a CloudEvent, in their order.
struct Attributes<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
