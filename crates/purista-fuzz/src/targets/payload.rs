//! Payloads: JSON is taken as it is, if it is JSON and nests no deeper than a type can.

use purista_core::{ErrorKind, Payload};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::{Verdict, input};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped {
    inner: Payload,
}

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Some(text) = input::text(data) else { return Verdict::Refused };
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let value = serde_json::from_str::<Value>(&text);
    let too_deep = value.as_ref().is_err_and(|error| error.to_string().contains("recursion limit"));
    match Payload::from_json_text(text.as_str()) {
        Ok(payload) => {
            assert!(is_json && !too_deep, "{text}");
            assert_eq!(payload.as_str(), text.trim_matches([' ', '\t', '\r', '\n']));
            assert_eq!(payload.len(), payload.as_str().len());
            match (payload.deserialize::<Value>(), value) {
                (Ok(one), Ok(other)) => assert_eq!(one, other),
                (one, other) => assert!(one.is_err() && other.is_err()),
            }
            // In another payload it is one level deeper.
            match Payload::json(&Wrapped { inner: payload.clone() }) {
                Ok(wrapped) => {
                    assert_eq!(wrapped.as_str(), format!("{{\"inner\":{}}}", payload.as_str()));
                    let unwrapped: Wrapped = wrapped.deserialize().expect("what was encoded is decoded");
                    assert_eq!(unwrapped.inner, payload);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidMessage),
            }
            Verdict::Accepted
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidMessage);
            assert!(!is_json || value.is_err(), "refused: {text}");
            Verdict::Refused
        }
    }
}
