//! CloudEvents that are sent: a message comes out of them byte by byte, in both content modes.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use bytes::Bytes;
use purista_core::Message;
use purista_dapr::fuzzing as dapr;
use serde_json::{Map, Value};

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Ok(message) = Message::decode(input::expand(data)) else { return Verdict::Refused };
    check_both_modes(&message);
    Verdict::Accepted
}

pub(super) fn check_both_modes(message: &Message) {
    let envelope = message.encode();
    let event = dapr::cloud_event(message, &envelope, "userCreated");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json; charset=utf-8"));
    let (came, original) = dapr::received(&headers, &event).expect("what was encoded is decoded");
    assert_eq!((came, original), (message.clone(), envelope.clone()));
    let Some(headers) = in_headers(&event) else { return };
    let (came, original) = dapr::received(&headers, &envelope).expect("the other mode says the same");
    assert_eq!((came, original), (message.clone(), envelope));
}

/// Writes the attributes of a CloudEvent into headers, as its HTTP binding says; `None` if another parser does not read
/// it: it refuses numbers and surrogates that are passed on as they are.
fn in_headers(event: &Bytes) -> Option<HeaderMap> {
    let attributes: Map<String, Value> = serde_json::from_slice(event).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &attributes {
        let Some(text) = value.as_str().filter(|_| !name.starts_with("data")) else { continue };
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b' ' | b'"' | b'%' | ..b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
                _ => encoded.push(char::from(byte)),
            }
        }
        let name = HeaderName::from_bytes(format!("ce-{name}").as_bytes()).expect("names are letters");
        headers.insert(name, HeaderValue::from_str(&encoded).expect("it is printable"));
    }
    Some(headers)
}
