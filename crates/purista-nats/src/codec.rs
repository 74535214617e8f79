//! Messages with what travels beside them.

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use purista_core::{
    adapter::{deadline_after, milliseconds_left},
    routing::bounded_name,
};
use tokio::time::Instant;

/// How many milliseconds after its receipt a command's caller stops waiting. The original sends none.
const TIMEOUT: HeaderName = HeaderName::from_static("Purista-Timeout");

/// Marks a response that says: this command is not for me.
const REFUSED: HeaderName = HeaderName::from_static("Purista-Refused");

/// Where the answer to a command goes that one instance handed over to another.
const REPLY_TO: HeaderName = HeaderName::from_static("Purista-Reply-To");

/// Counts how often instances have given a command back to its queue group.
const GIVEN_BACK: HeaderName = HeaderName::from_static("Purista-Given-Back");

/// What a dead letter tells beside the original.
pub(crate) const DEAD_LETTER: HeaderName = HeaderName::from_static("Purista-Dead-Letter");

/// Ends an id that could not be sent as it is.
const ESCAPED: char = '~';

/// By which JetStream recognises a message that is published again.
const MESSAGE_ID: HeaderName = HeaderName::from_static("Nats-Msg-Id");

/// Tells how long a command's caller waits from now on.
pub(crate) fn timeout_headers(deadline: Instant) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert_timeout(&mut headers, deadline);
    headers
}

fn insert_timeout(headers: &mut HeaderMap, deadline: Instant) {
    headers.insert(TIMEOUT, HeaderValue::from(milliseconds_left(deadline)));
}

/// Returns when a command's caller stops waiting, if it says so.
pub(crate) fn deadline(message: &Message, arrived: Instant) -> Option<Instant> {
    deadline_after(message.headers.as_ref()?.get(TIMEOUT)?.as_str(), arrived)
}

/// Marks a refusal.
pub(crate) fn refusal_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(REFUSED, "1");
    headers
}

/// Returns whether a response is a refusal.
pub(crate) fn is_refusal(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get(REFUSED).is_some())
}

/// Tells where the answer goes, and how long its caller waits, of a command that is handed over.
pub(crate) fn hand_over_headers(reply_to: Option<&str>, deadline: Option<Instant>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(reply_to) = reply_to {
        headers.insert(REPLY_TO, reply_to);
    }
    if let Some(deadline) = deadline {
        insert_timeout(&mut headers, deadline);
    }
    headers
}

/// Tells how often a command was given back to its queue group, and how long its caller waits.
pub(crate) fn given_back_headers(times: u32, deadline: Option<Instant>) -> HeaderMap {
    let mut headers = hand_over_headers(None, deadline);
    headers.insert(GIVEN_BACK, HeaderValue::from(u64::from(times)));
    headers
}

/// Returns how often a command was given back to its queue group.
pub(crate) fn times_given_back(message: &Message) -> u32 {
    let times = message.headers.as_ref().and_then(|headers| headers.get(GIVEN_BACK));
    times.and_then(|times| times.as_str().parse().ok()).unwrap_or(0)
}

/// Returns where the answer to a command goes that was handed over; none if nothing can be published there. The server ends
/// the connection of who tries.
pub(crate) fn handed_over_reply_to(message: &Message) -> Option<String> {
    let reply_to = message.headers.as_ref()?.get(REPLY_TO)?.as_str();
    let is_odd = |character: char| character.is_whitespace() || character.is_control();
    (!reply_to.is_empty() && !reply_to.contains(is_odd)).then(|| reply_to.to_owned())
}

/// Lets JetStream recognise a message that is published again.
pub(crate) fn message_id_headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // An id of a foreign peer may hold line breaks, which no header can, or white space, which the server takes off. What
    // stands in its place ends as no id does that is sent as it is.
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.ends_with(ESCAPED);
    match id.parse::<HeaderValue>() {
        Ok(id) if is_plain => headers.insert(MESSAGE_ID, id),
        _ => headers.insert(MESSAGE_ID, format!("{}{ESCAPED}", bounded_name(&[id], 128))),
    }
    headers
}

/// What JetStream says of a delivery, in the subject of its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryInfo {
    /// How often it was delivered, this time included.
    pub(crate) delivered: u32,
    /// Its number in the stream.
    pub(crate) sequence: u64,
}

/// Reads the subject of an acknowledgement: nine tokens, or, with domain and account, eleven and more.
pub(crate) fn delivery_info(reply_to: &str) -> Option<DeliveryInfo> {
    let tokens: Vec<_> = reply_to.strip_prefix("$JS.ACK.")?.split('.').collect();
    let numbers = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    Some(DeliveryInfo { delivered: numbers.first()?.parse().ok()?, sequence: numbers.get(1)?.parse().ok()? })
}

/// Makes a message that came with these headers and nothing else.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn with(headers: HeaderMap) -> Message {
    Message {
        subject: "subject".into(),
        reply: None,
        payload: bytes::Bytes::new(),
        headers: Some(headers),
        status: None,
        description: None,
        length: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_limits_are_counted_from_the_receipt_and_never_rounded_to_nothing() {
        for (limit, expected) in [(1, 1_000), (499_000, 499_000), (499_001, 500_000), (0, 1_000)] {
            let headers = timeout_headers(Instant::now() + Duration::from_micros(limit));
            let arrived = Instant::now() + Duration::from_secs(3_600);
            let deadline = deadline(&with(headers), arrived).unwrap();
            assert_eq!((deadline - arrived).as_micros(), expected, "{limit} us");
        }
    }

    #[test]
    fn odd_time_limits_are_none() {
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, odd);
            assert_eq!(deadline(&with(headers), Instant::now()), None, "{odd}");
        }
    }

    #[test]
    fn message_ids_never_break_a_header() {
        for id in ["0af7651916cd43dd8448eb211c80319c", "a b", "a\r\nb: c"] {
            let headers = message_id_headers(id);
            let value = headers.get(MESSAGE_ID).unwrap().as_str();
            assert!(!value.contains(['\r', '\n']), "{value}");
        }
    }

    #[test]
    fn no_two_messages_have_one_id() {
        let ids = ["", "a", " a", "a ", "a\r", "a_0d", "a~", "a_7e", "a_0d~", "\u{a0}a"];
        let sent = ids.map(|id| message_id_headers(id).get(MESSAGE_ID).unwrap().as_str().trim().to_owned());
        let distinct: std::collections::HashSet<_> = sent.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{sent:?}");
        assert_eq!(sent[1], "a");
    }

    #[test]
    fn answers_go_where_something_can_be_published() {
        for (header, reply_to) in
            [("_INBOX.a.1", Some("_INBOX.a.1")), ("", None), ("a b", None), ("a\tb 5", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(REPLY_TO, header);
            assert_eq!(handed_over_reply_to(&with(headers)).as_deref(), reply_to, "{header:?}");
        }
    }

    #[test]
    fn delivery_infos_are_read_in_both_forms() {
        let info = Some(DeliveryInfo { delivered: 3, sequence: 42 });
        assert_eq!(delivery_info("$JS.ACK.stream.consumer.3.42.7.1700000000000000000.0"), info);
        assert_eq!(delivery_info("$JS.ACK._.hash.stream.consumer.3.42.7.1700000000000000000.0"), info);
        assert_eq!(delivery_info("$JS.ACK._.hash.stream.consumer.3.42.7.1700000000000000000.0.random"), info);
        for odd in ["", "$JS.ACK.", "$JS.ACK.a.b.c.d.e.f.g", "_INBOX.x", "$JS.ACK.s.c.1.2"] {
            assert_eq!(delivery_info(odd), None, "{odd}");
        }
    }
}
