//! Limits of streams, which several instances with different settings share.

use std::time::Duration;

use async_nats::jetstream::stream::Config as StreamConfig;
use serde_json::{Value, json};

use crate::{config::JetStreamConfig, streams::StreamKind};

/// The least room that a stream is created with where none was asked for.
const LEAST_BYTES: i64 = 1 << 20;

/// Returns with how little room a stream may be created.
pub(crate) const fn least_bytes(config: &JetStreamConfig, wanted: &StreamConfig) -> i64 {
    if config.max_bytes.is_some() { wanted.max_bytes } else { LEAST_BYTES }
}

/// Raises the limits of a stream that are tighter than what was asked for. What nobody asked for stays, and nothing is
/// lowered: other instances count on what they have.
pub(crate) fn raise(found: &mut Value, kind: StreamKind, config: &JetStreamConfig) {
    if kind == StreamKind::Releases {
        return;
    }
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    raise_limit(found, "max_bytes", config.max_bytes);
    raise_number(found, "num_replicas", config.replicas.map(|servers| servers as u64));
    if kind == StreamKind::DeadLetters {
        return raise_limit(found, "max_msgs", config.max_dead_letters);
    }
    raise_limit(found, "max_msgs", config.max_messages);
    raise_limit(found, "max_msgs_per_subject", config.max_messages_per_subject);
    raise_limit(found, "max_age", config.max_age.map(nanos));
    // The window must not be longer than the age.
    let age = found.get("max_age").and_then(Value::as_u64).filter(|age| *age > 0);
    let window = config.duplicate_window.map(nanos);
    raise_number(found, "duplicate_window", window.map(|window| window.min(age.unwrap_or(u64::MAX))));
}

/// Raises a limit; one that is absent, zero or negative is none.
fn raise_limit(found: &mut Value, name: &str, wanted: Option<u64>) {
    if found.get(name).and_then(Value::as_i64).is_some_and(|limit| limit > 0) {
        raise_number(found, name, wanted);
    }
}

fn raise_number(found: &mut Value, name: &str, wanted: Option<u64>) {
    let known = found.get(name).and_then(Value::as_u64).unwrap_or_default();
    if let Some(wanted) = wanted.filter(|wanted| *wanted > known) {
        found[name] = json!(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Option, what the stream has, what is asked for, and what the stream has then.
    #[test]
    fn limits_are_raised_and_never_lowered() {
        let second = |seconds| Duration::from_secs(seconds);
        let ns = 1_000_000_000_i64;
        let none = JetStreamConfig::default;
        for (name, found, config, wanted) in [
            ("max_bytes", 10, none().with_max_bytes(20), 20),
            ("max_bytes", 30, none().with_max_bytes(20), 30),
            ("max_bytes", -1, none().with_max_bytes(20), -1),
            ("max_bytes", 10, none(), 10),
            ("max_msgs", 10, none().with_max_messages(20), 20),
            ("max_msgs", 30, none().with_max_messages(20), 30),
            ("max_msgs", -1, none().with_max_messages(20), -1),
            ("max_msgs", 10, none(), 10),
            ("max_msgs_per_subject", 10, none().with_max_messages_per_subject(20), 20),
            ("max_msgs_per_subject", 30, none().with_max_messages_per_subject(20), 30),
            ("max_msgs_per_subject", -1, none().with_max_messages_per_subject(20), -1),
            ("max_age", ns, none().with_max_age(second(2)), 2 * ns),
            ("max_age", 3 * ns, none().with_max_age(second(2)), 3 * ns),
            ("max_age", 0, none().with_max_age(second(2)), 0),
            ("max_age", ns, none(), ns),
            ("num_replicas", 1, none().with_replicas(3), 3),
            ("num_replicas", 3, none().with_replicas(1), 3),
            ("num_replicas", 3, none(), 3),
            ("duplicate_window", ns, none().with_duplicate_window(second(2)), 2 * ns),
            ("duplicate_window", 3 * ns, none().with_duplicate_window(second(2)), 3 * ns),
        ] {
            let mut stream = json!({ name: found });
            raise(&mut stream, StreamKind::Events, &config);
            assert_eq!(stream[name], json!(wanted), "{name}: {found}, {config:?}");
        }
        let mut letters = json!({ "max_msgs": 10 });
        raise(&mut letters, StreamKind::DeadLetters, &none().with_max_dead_letters(20).with_max_messages(30));
        assert_eq!(letters["max_msgs"], json!(20));
        let mut short = json!({ "max_age": ns, "duplicate_window": ns });
        raise(&mut short, StreamKind::Events, &none().with_duplicate_window(second(9)));
        assert_eq!(short["duplicate_window"], json!(ns), "never longer than the age");
    }
}
