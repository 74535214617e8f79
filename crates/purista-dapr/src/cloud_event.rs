//! Messages as CloudEvents (wire format, section 6).

use std::{borrow::Cow, collections::HashMap};

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use purista_core::{Error, ErrorKind, Message, Result, adapter::DeadLetter};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use crate::{error::error, numbers};

/// The media type of a CloudEvent that is one with its data.
pub(crate) const CLOUD_EVENT: &str = "application/cloudevents+json";

/// What a dead letter tells beside the original.
const DEAD_LETTER: &str = "puristadeadletter";

/// What a CloudEvent must have.
const REQUIRED: [&str; 4] = ["id", "source", "type", "specversion"];

/// Where a message goes, for its CloudEvent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) source: &'a str,
    pub(crate) pubsub_name: &'a str,
    pub(crate) topic: &'a str,
    /// Whether it is the topic for all messages. Some brokers drop what comes twice with one id.
    pub(crate) is_for_all: bool,
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

/// Returns the fields by which messages are routed, under the names that they have as attributes.
fn routing_fields(message: &Message) -> [(&'static str, Option<Cow<'_, str>>); 12] {
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

/// Makes the CloudEvent of a message, whose bytes it holds as they are.
pub(crate) fn cloud_event(message: &Message, envelope: &[u8], to: Destination<'_>) -> Bytes {
    let kind = message.message_type().as_str();
    let mut id = format!("{}-{kind}", message.id);
    if to.is_for_all {
        id.push_str("-all");
    }
    let mut attributes = common(id, format!("purista.{kind}"), to);
    for (name, value) in routing_fields(message) {
        attributes.extend(value.map(|value| (name, value)));
    }
    if let Some(traceparent) = message.trace_context.traceparent() {
        attributes.push(("traceparent", traceparent.into()));
    }
    match numbers::are_readable(envelope) {
        true => with_data(attributes, "data", envelope),
        false => with_data(attributes, "data_base64", &base64(envelope)),
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    format!("\"{}\"", BASE64_STANDARD.encode(bytes)).into()
}

/// Makes the CloudEvent of a dead letter.
pub(crate) fn dead_letter(letter: &DeadLetter, to: Destination<'_>) -> Bytes {
    let subscriber = &letter.subscriber;
    let id = format!("{}-{subscriber}-{}", letter.message_id, letter.last_attempt_at);
    let mut attributes = common(id, "purista.deadLetter".to_owned(), to);
    attributes.push((DEAD_LETTER, letter.metadata().into()));
    with_data(attributes, "data_base64", &base64(&letter.original))
}

fn common(id: String, kind: String, to: Destination<'_>) -> Vec<(&'static str, Cow<'_, str>)> {
    vec![
        ("specversion", "1.0".into()),
        ("id", id.into()),
        ("source", to.source.into()),
        ("type", kind.into()),
        ("datacontenttype", "application/json".into()),
        ("pubsubname", to.pubsub_name.into()),
        ("topic", to.topic.into()),
    ]
}

fn with_data(attributes: Vec<(&'static str, Cow<'_, str>)>, name: &str, data: &[u8]) -> Bytes {
    // Text always has a form in JSON.
    let mut event = serde_json::to_vec(&Attributes(attributes)).unwrap_or_default();
    event.pop();
    event.extend_from_slice(b",\"");
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b"\":");
    event.extend_from_slice(data);
    event.push(b'}');
    event.into()
}

/// A message that came as a CloudEvent, and its bytes.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) message: Message,
    pub(crate) original: Bytes,
}

/// Why a CloudEvent is not taken.
#[derive(Debug)]
pub(crate) enum Malformed {
    /// It is no CloudEvent.
    NoCloudEvent(Error),
    /// It is one, and holds no message.
    NoMessage(Error),
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        let (Malformed::NoCloudEvent(error) | Malformed::NoMessage(error)) = malformed;
        error
    }
}

/// Reads a CloudEvent, be its attributes beside the data or in headers.
pub(crate) fn received(headers: &HeaderMap, body: &Bytes) -> Result<Received, Malformed> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_structured = media_type.split(';').next().is_some_and(|kind| kind.trim() == CLOUD_EVENT);
    match is_structured {
        true => structured(body),
        false => binary(headers, body),
    }
}

fn structured(body: &Bytes) -> Result<Received, Malformed> {
    let event: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body)
        .map_err(|cause| Malformed::NoCloudEvent(invalid("no CloudEvent").source(cause)))?;
    let attribute = |name: &str| {
        let value = event.get(name)?;
        serde_json::from_str::<Cow<'_, str>>(value.get()).ok().map(Cow::into_owned)
    };
    check_required(&attribute)?;
    let original = match (event.get("data"), attribute("data_base64")) {
        (Some(data), None) => body.slice_ref(data.get().as_bytes()),
        (None, Some(data)) => BASE64_STANDARD
            .decode(data)
            .map_err(|cause| Malformed::NoMessage(invalid("the data is not Base64").source(cause)))?
            .into(),
        _ => return Err(Malformed::NoMessage(invalid("a CloudEvent without data"))),
    };
    checked(original, &attribute)
}

fn binary(headers: &HeaderMap, body: &Bytes) -> Result<Received, Malformed> {
    let attribute = |name: &str| headers.get(format!("ce-{name}"))?.to_str().ok().map(percent_decoded);
    check_required(&attribute)?;
    checked(body.clone(), &attribute)
}

/// Undoes what the HTTP binding of CloudEvents does to text that is not ASCII.
fn percent_decoded(value: &str) -> String {
    let escaped = value.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let pair = url::form_urlencoded::parse(escaped.as_bytes()).next();
    pair.map_or_else(String::new, |(text, _)| text.into_owned())
}

fn check_required(attribute: &impl Fn(&str) -> Option<String>) -> Result<(), Malformed> {
    let is_there = |name: &&str| attribute(name).is_some_and(|value| !value.is_empty());
    match REQUIRED.iter().find(|name| !is_there(name)) {
        Some(name) => Err(Malformed::NoCloudEvent(invalid(&format!("a CloudEvent without {name}")))),
        None => Ok(()),
    }
}

/// Decodes a message, and refuses it if it says something else than its attributes.
fn checked(original: Bytes, attribute: &impl Fn(&str) -> Option<String>) -> Result<Received, Malformed> {
    let message = Message::decode(original.clone()).map_err(Malformed::NoMessage)?;
    for (name, value) in routing_fields(&message) {
        if attribute(name).is_some_and(|said| value.as_deref() != Some(said.as_str())) {
            let context = format!("the attribute {name} is not what the message says");
            return Err(Malformed::NoMessage(invalid(&context)));
        }
    }
    Ok(Received { message, original })
}

pub(crate) fn invalid(context: &str) -> Error {
    error(ErrorKind::InvalidMessage, "receive").context(context)
}

#[cfg(test)]
mod tests {
    use purista_core::{EventDraft, Id, Payload};

    use super::*;

    const TO: Destination<'_> =
        Destination { source: "app-user-v1", pubsub_name: "pubsub", topic: "userCreated", is_for_all: false };

    fn event() -> Message {
        let text = r#"{"b":1.0,"a":"\ud800 <&>"}"#;
        EventDraft::event(("User", "1", "signUp"), "userCreated")
            .with_tenant_id("acme-1")
            .with_payload(Payload::from_json_text(text).unwrap())
            .stamp(&Id::from("instance"))
    }

    fn headers(values: &[(&'static str, &'static str)]) -> HeaderMap {
        let value = |(name, value): &(&'static str, &'static str)| {
            (axum::http::HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        };
        values.iter().map(value).collect()
    }

    fn structured_headers() -> HeaderMap {
        headers(&[("content-type", "application/cloudevents+json; charset=utf-8")])
    }

    #[test]
    fn a_message_comes_out_of_its_cloud_event_byte_by_byte() {
        let (message, envelope) = (event(), event().encode());
        let envelope = Message::decode(envelope).map(|event| event.encode()).unwrap();
        let event = cloud_event(&message, &envelope, TO);
        let received = received(&structured_headers(), &event).unwrap();
        assert_eq!(received.original, envelope);
        assert_eq!(received.message.payload(), message.payload());
    }

    #[test]
    fn ids_differ_between_topics_and_types() {
        let message = event();
        let id = |to| {
            let event: serde_json::Value = serde_json::from_slice(&cloud_event(&message, b"{}", to)).unwrap();
            event["id"].as_str().unwrap().to_owned()
        };
        assert_eq!(id(TO), format!("{}-customMessage", message.id));
        assert_eq!(id(Destination { is_for_all: true, ..TO }), format!("{}-customMessage-all", message.id));
    }

    #[test]
    fn a_cloud_event_that_lacks_something_is_none() {
        let event = cloud_event(&event(), &event().encode(), TO);
        let text = std::str::from_utf8(&event).unwrap();
        for name in REQUIRED {
            for other in [format!("\"no{name}\":"), format!("\"{name}\":1,\"x\":")] {
                let without = Bytes::from(text.replacen(&format!("\"{name}\":"), &other, 1));
                let refused = received(&structured_headers(), &without);
                assert!(matches!(refused, Err(Malformed::NoCloudEvent(_))), "{name}");
            }
        }
        for body in ["", "1", "[]", "{}", "no JSON"] {
            let refused = received(&structured_headers(), &Bytes::from(body));
            assert!(matches!(refused, Err(Malformed::NoCloudEvent(_))), "{body}");
        }
    }

    #[test]
    fn data_is_a_message_that_its_attributes_agree_with() {
        let text = String::from_utf8(cloud_event(&event(), &event().encode(), TO).into()).unwrap();
        let (start, _) = text.split_once(",\"data\":").unwrap();
        for wrong in [
            text.replacen("\"tenantid\":\"acme-1\"", "\"tenantid\":\"acme_1\"", 1),
            text.replacen("\"tenantid\"", "\"principalid\":\"ada\",\"tenantid\"", 1),
            format!("{start}}}"),
            format!("{start},\"data\":\"text\"}}"),
            format!("{start},\"data_base64\":\"?\"}}"),
        ] {
            let refused = received(&structured_headers(), &wrong.clone().into());
            assert!(matches!(refused, Err(Malformed::NoMessage(_))), "{wrong}");
        }
    }

    #[test]
    fn attributes_can_be_headers_and_data_base64() {
        let envelope = event().encode();
        let attributes =
            [("ce-id", "1"), ("ce-source", "a%20b"), ("ce-type", "t"), ("ce-specversion", "1.0")];
        assert_eq!(received(&headers(&attributes), &envelope).unwrap().original, envelope);
        for without in 0..attributes.len() {
            let mut some = attributes.to_vec();
            some.remove(without);
            assert!(matches!(received(&headers(&some), &envelope), Err(Malformed::NoCloudEvent(_))));
        }
        let mut other_tenant = attributes.to_vec();
        other_tenant.push(("ce-tenantid", "acme%5F1"));
        assert!(matches!(received(&headers(&other_tenant), &envelope), Err(Malformed::NoMessage(_))));

        let data = BASE64_STANDARD.encode(&envelope);
        let start = r#"{"specversion":"1.0","id":"1","source":"a","type":"t","data_base64":"#;
        let event = Bytes::from(format!("{start}\"{data}\"}}"));
        assert_eq!(received(&structured_headers(), &event).unwrap().original, envelope);
    }

    #[test]
    fn a_dead_letter_can_be_read_back() {
        let message = event();
        let metadata = r#"{"messageId":"1","serviceName":"Mail","serviceVersion":"1","serviceTarget":"welcome",
            "reason":"no","attempts":3,"firstAttemptAt":1,"lastAttemptAt":2}"#;
        let letter = DeadLetter::from_metadata(metadata, message.encode()).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&dead_letter(&letter, TO)).unwrap();
        let original = BASE64_STANDARD.decode(event["data_base64"].as_str().unwrap()).unwrap();
        let metadata = event[DEAD_LETTER].as_str().unwrap();
        assert_eq!(DeadLetter::from_metadata(metadata, original.into()).unwrap(), letter);
    }
}
