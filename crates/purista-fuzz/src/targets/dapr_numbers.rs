//! Numbers in JSON that a sidecar cannot read, held against another parser.

use purista_dapr::fuzzing as dapr;
use serde_json::{Value, value::RawValue};

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let expanded = input::expand(data);
    // It has to end for anything.
    let are_readable = dapr::are_readable(&expanded);
    let Ok(text) = String::from_utf8(expanded) else { return Verdict::Refused };
    if serde_json::from_str::<&RawValue>(&text).is_err() {
        return Verdict::Refused;
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(_) => assert!(are_readable, "{text}"),
        Err(error) if error.to_string().contains("number out of range") => assert!(!are_readable, "{text}"),
        // It nests too deep, or has half a surrogate.
        Err(_) => return Verdict::Refused,
    }
    Verdict::Accepted
}
