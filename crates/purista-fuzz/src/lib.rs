//! What is fuzzed: the places where foreign bytes and text are read, and what must hold there.
//!
//! Each target takes any bytes and panics if a property is broken. libFuzzer runs them (see `fuzz/README.md`), and the
//! tests of this crate replay the seeds.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a broken property panics, as libFuzzer and tests expect"
)]

pub mod input;
pub mod names;
pub mod replay;
pub mod seeds;
pub mod targets;

/// What a target did with an input.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else")]
pub enum Verdict {
    /// It was read, so that the properties of what is accepted were checked.
    Accepted,
    /// It was refused as malformed.
    Refused,
}

impl Verdict {
    /// Returns the verdict on something that was accepted or not.
    pub const fn accepted(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}

/// Something that is fuzzed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target {
    /// Names the fuzz target and its seeds.
    pub name: &'static str,
    /// Checks the properties for one input.
    pub run: fn(&[u8]) -> Verdict,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// All that is fuzzed.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: targets::$name::run }),*];
    };
}

targets![
    addresses,
    amqp_properties,
    cloud_event,
    cloud_event_encode,
    dapr_answers,
    dapr_numbers,
    dead_letter,
    envelope,
    environment,
    error_payload,
    filter_index,
    jetstream_answers,
    mqtt_properties,
    mqtt_records,
    mqtt_stream,
    names,
    nats_headers,
    nats_subjects,
    payload,
    refusals,
    servers,
    trace_context,
    unread,
];
