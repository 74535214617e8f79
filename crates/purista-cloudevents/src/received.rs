//! Reads messages from CloudEvents (wire format, section 6), in both content modes.

use std::{borrow::Cow, collections::HashMap};

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use purista_core::{Error, ErrorKind, Message};
use serde_json::value::RawValue;

use crate::event::{STRUCTURED, routing_fields};

/// What a CloudEvent must have.
const REQUIRED: [&str; 4] = ["id", "source", "type", "specversion"];

/// A message that came as a CloudEvent, and its bytes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its bytes, as they came.
    pub original: Bytes,
}

/// Why a CloudEvent is not taken.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "adapters answer each in their own way")]
pub enum Malformed {
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

/// Reads a CloudEvent, be its attributes beside the data (structured content mode) or in headers (binary content mode).
///
/// # Errors
///
/// [`Malformed`] tells whether it is a CloudEvent. Attributes that contradict the message are refused.
pub fn received(headers: &HeaderMap, body: &Bytes) -> Result<Received, Malformed> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_structured = media_type.split(';').next().is_some_and(|kind| kind.trim() == STRUCTURED);
    match is_structured {
        true => structured(body),
        false => binary(headers, body),
    }
}

fn structured(body: &Bytes) -> Result<Received, Malformed> {
    let event: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body)
        .map_err(|cause| Malformed::NoCloudEvent(invalid("no CloudEvent").with_source(cause)))?;
    let attribute = |name: &str| {
        let value = event.get(name)?;
        serde_json::from_str::<Cow<'_, str>>(value.get()).ok().map(Cow::into_owned)
    };
    check_required(&attribute)?;
    let original = match (event.get("data"), attribute("data_base64")) {
        (Some(data), None) => body.slice_ref(data.get().as_bytes()),
        (None, Some(data)) => BASE64_STANDARD
            .decode(data)
            .map_err(|cause| Malformed::NoMessage(invalid("the data is not Base64").with_source(cause)))?
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

fn invalid(context: &str) -> Error {
    Error::new(ErrorKind::InvalidMessage, "receive").with_context(context)
}

#[cfg(test)]
mod tests {
    use purista_core::{EventDraft, Id, Payload, adapter::DeadLetter};

    use super::*;
    use crate::{CloudEvent, event::DEAD_LETTER, event_id};

    fn cloud_event(message: &Message) -> Bytes {
        let event = CloudEvent::new(event_id(message), "purista.customMessage", "app-user-v1");
        event.with_message(message, &message.encode())
    }

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
        let message = event();
        let (envelope, event) = (message.encode(), cloud_event(&message));
        let received = received(&structured_headers(), &event).unwrap();
        assert_eq!(received.original, envelope);
        assert_eq!(received.message.payload(), message.payload());
    }

    #[test]
    fn a_cloud_event_that_lacks_something_is_none() {
        let event = cloud_event(&event());
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
        let text = String::from_utf8(cloud_event(&event()).into()).unwrap();
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
        let written = CloudEvent::new("1", "purista.deadLetter", "app").with_dead_letter(&letter);
        let event: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let original = BASE64_STANDARD.decode(event["data_base64"].as_str().unwrap()).unwrap();
        let metadata = event[DEAD_LETTER].as_str().unwrap();
        assert_eq!(DeadLetter::from_metadata(metadata, original.into()).unwrap(), letter);
    }
}
