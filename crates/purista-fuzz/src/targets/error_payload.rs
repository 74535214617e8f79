//! Error payloads: what is accepted is encoded and decoded to the same.

use purista_core::{ErrorPayload, Payload};

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Some(text) = input::text(data) else { return Verdict::Refused };
    let Ok(payload) = Payload::from_json_text(text) else { return Verdict::Refused };
    let Ok(error) = payload.deserialize::<ErrorPayload>() else { return Verdict::Refused };
    assert!(!error.status.to_string().is_empty());
    let encoded = Payload::json(&error).expect("it comes from a payload, which is no deeper");
    assert!(encoded.len() <= payload.len() + 64, "{} bytes of {}", encoded.len(), payload.len());
    assert_eq!(encoded.deserialize::<ErrorPayload>().expect("what was encoded is decoded"), error);
    Verdict::Accepted
}
