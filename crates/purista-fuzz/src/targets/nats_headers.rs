//! What stands beside a message of NATS: bounded time limits, subjects that can be published to, ids that no two
//! messages share.

use std::{str::FromStr as _, time::Duration};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use purista_core::MAX_TIMEOUT;
use purista_nats::fuzzing as nats;

use crate::{Verdict, input};

/// Time limits travel in whole milliseconds, rounded up, and some time passes meanwhile.
const PRECISION: Duration = Duration::from_millis(2);

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::texts(data);
    let ids = [fields.next().unwrap_or_default(), fields.next().unwrap_or_default()];
    check_ids(&ids);
    let mut headers = HeaderMap::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        // What the client does not take it does not hand over either.
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(&name), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let beside = nats::beside(&nats::incoming(headers));
    if let Some(limit) = beside.time_limit {
        assert!(limit <= MAX_TIMEOUT, "{limit:?}");
    }
    if let Some(reply_to) = &beside.more {
        let is_subject =
            !reply_to.is_empty() && !reply_to.contains(|c: char| c.is_whitespace() || c.is_control());
        assert!(is_subject, "nothing can be published to {reply_to:?}");
    }
    let again = nats::hand_over_headers(beside.more.as_deref(), beside.time_limit);
    let again = nats::beside(&nats::incoming(again));
    assert_eq!(again.more, beside.more);
    match (again.time_limit, beside.time_limit) {
        (Some(again), Some(limit)) => {
            assert!(again <= limit + PRECISION || limit.is_zero(), "{again:?} {limit:?}");
        }
        (again, limit) => assert_eq!(again, limit),
    }
    Verdict::accepted(beside.time_limit.is_some() || beside.more.is_some() || beside.is_refusal)
}

/// The server compares the ids of messages without the white space around them.
fn check_ids(ids: &[String; 2]) {
    let sent = |id: &String| {
        let headers = nats::message_id_headers(id);
        let value = headers.get("Nats-Msg-Id").expect("there is one").as_str().to_owned();
        assert!(!value.contains(['\r', '\n']), "{value:?}");
        value.trim().to_owned()
    };
    assert_eq!(sent(&ids[0]) == sent(&ids[1]), ids[0] == ids[1], "{ids:?}");
}
