//! Messages with what travels beside them.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{
    DeadLetterId, Id, Message, MessageType,
    adapter::{deadline_after, milliseconds_left},
    routing::bounded_name,
};
use tokio::time::Instant;

use crate::address::MAX_SHORT_STRING;

/// Marks a response that says: this command is not for me.
const REFUSED: &str = "purista-refused";

/// How many attempts had failed when a message was given back.
const FAILED_ATTEMPTS: &str = "purista-failed-attempts";

/// Counts how often instances have given a command back to the queue that they share.
const GIVEN_BACK: &str = "purista-given-back";

/// What a dead letter tells beside the original.
const DEAD_LETTER: &str = "purista-dead-letter";

/// How often a message was a dead letter that was sent again.
const REDRIVES: &str = "purista-redrives";

/// Further queues a message is routed to, by the same exchange.
pub(crate) const CC: &str = "CC";

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// What a message says about its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// Where the answer goes: for a command the caller's queue, for a response what its command said.
    pub(crate) to: Option<ShortString>,
    /// When a command's caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Whether the response says that the command came to the wrong address.
    pub(crate) refuses: bool,
}

/// Returns the properties that both topologies have.
pub(crate) fn properties(message: &Message, reply: &Reply, mut headers: FieldTable) -> BasicProperties {
    let message_type = message.message_type();
    let is_kept =
        message.event_name.is_some() || !(message_type.is_response() || message_type == MessageType::Command);
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(if is_kept { PERSISTENT } else { TRANSIENT });
    if let Some(id) = short_id(&message.id) {
        properties = properties.with_message_id(id);
    }
    if let Some(id) = message.correlation_id.as_ref().and_then(short_id) {
        properties = properties.with_correlation_id(id);
    }
    if let Some(deadline) = reply.deadline {
        properties = properties.with_expiration(milliseconds_left(deadline).to_string().into());
    }
    if reply.refuses {
        headers.insert(REFUSED.into(), AMQPValue::Boolean(true));
    }
    if headers.inner().is_empty() { properties } else { properties.with_headers(headers) }
}

/// An id of a foreign peer can be longer than a property; nothing depends on the property then.
fn short_id(id: &Id) -> Option<ShortString> {
    (id.len() <= MAX_SHORT_STRING).then(|| id.as_str().into())
}

/// Returns when a command's caller stops waiting, if it says so.
pub(crate) fn deadline(properties: &BasicProperties, arrived: Instant) -> Option<Instant> {
    deadline_after(properties.expiration().as_ref()?.as_str(), arrived)
}

/// Returns a field of a message that its properties repeat.
pub(crate) fn beside(properties: &BasicProperties, field: &str) -> Option<String> {
    if field == "correlationId" {
        return properties.correlation_id().as_ref().map(ToString::to_string);
    }
    match header(properties, field)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        _ => None,
    }
}

/// Returns whether a response is a refusal.
pub(crate) fn is_refusal(properties: &BasicProperties) -> bool {
    header(properties, REFUSED).is_some()
}

/// Returns how many attempts have failed, as far as the broker and whoever gave the message back can tell.
pub(crate) fn failed_attempts(properties: &BasicProperties, redelivered: bool) -> FailedAttempts {
    let given_back = header(properties, FAILED_ATTEMPTS).and_then(number).unwrap_or(0);
    // Only quorum queues count.
    let by_broker = header(properties, "x-delivery-count").and_then(number).unwrap_or(u32::from(redelivered));
    FailedAttempts { given_back, by_broker }
}

/// Where the number of attempts comes from that have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedAttempts {
    /// Told by who gave the message back.
    pub(crate) given_back: u32,
    /// Deliveries without an acknowledgement since then.
    pub(crate) by_broker: u32,
}

impl FailedAttempts {
    pub(crate) const fn total(self) -> u32 {
        self.given_back.saturating_add(self.by_broker)
    }

    /// Returns which attempt the delivery is for. A foreign peer may have chosen any number.
    pub(crate) const fn attempt(self) -> u32 {
        self.total().saturating_add(1)
    }
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn number(value: &AMQPValue) -> Option<u32> {
    let number = match value {
        AMQPValue::ShortShortInt(number) => i64::from(*number),
        AMQPValue::ShortInt(number) => i64::from(*number),
        AMQPValue::LongInt(number) => i64::from(*number),
        AMQPValue::LongLongInt(number) => *number,
        AMQPValue::LongUInt(number) => i64::from(*number),
        AMQPValue::ShortUInt(number) => i64::from(*number),
        AMQPValue::ShortShortUInt(number) => i64::from(*number),
        _ => return None,
    };
    u32::try_from(number).ok()
}

/// Returns the properties of a message that is put back into its queue.
pub(crate) fn given_back(properties: &BasicProperties, failed_attempts: u32) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default().inner().clone();
    // It goes to this one queue, whose count begins again.
    headers.retain(|name, _| !matches!(name.as_str(), CC | "x-delivery-count" | "x-death"));
    headers.insert(FAILED_ATTEMPTS.into(), AMQPValue::LongLongInt(failed_attempts.into()));
    properties.clone().with_headers(headers.into())
}

/// Returns how many bytes the properties need in their frame, or a few more.
pub(crate) fn size_of(properties: &BasicProperties) -> usize {
    const FIXED: usize = 64;
    let texts = [
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
    ];
    let texts = texts.into_iter().flatten().map(|text| 1 + text.as_str().len());
    let headers = properties.headers().iter().flat_map(|headers| headers.inner());
    let headers = headers.map(|(name, value)| 1 + name.as_str().len() + size_of_value(value));
    FIXED + texts.sum::<usize>() + headers.sum::<usize>()
}

fn size_of_value(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 5 + text.as_bytes().len(),
        AMQPValue::FieldArray(array) => 5 + array.as_slice().iter().map(size_of_value).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            let all =
                table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + size_of_value(value));
            5 + all.sum::<usize>()
        }
        AMQPValue::ByteArray(bytes) => 5 + bytes.as_slice().len(),
        // Numbers and the like.
        _ => 17,
    }
}

/// Returns the properties of a command that is given back to the queue that its instances share.
pub(crate) fn given_back_to_share(
    properties: &BasicProperties,
    times: u32,
    deadline: Option<Instant>,
) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default().inner().clone();
    headers.insert(GIVEN_BACK.into(), AMQPValue::LongLongInt(times.into()));
    let properties = properties.clone().with_headers(headers.into());
    match deadline {
        Some(deadline) => properties.with_expiration(milliseconds_left(deadline).to_string().into()),
        None => properties,
    }
}

/// Returns how often a command was given back to the queue that its instances share.
pub(crate) fn times_given_back(properties: &BasicProperties) -> u32 {
    header(properties, GIVEN_BACK).and_then(number).unwrap_or(0)
}

/// Returns the properties of a message that is sent to its subscriber's queue again, and to no other one.
pub(crate) fn redriven(properties: &BasicProperties, redrives: u32) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default().inner().clone();
    headers.retain(|name, _| name.as_str() != CC);
    headers.insert(REDRIVES.into(), AMQPValue::LongLongInt(redrives.into()));
    properties.clone().with_headers(headers.into())
}

/// Returns how often a message was a dead letter that was sent again.
pub(crate) fn redrives(properties: &BasicProperties) -> u32 {
    header(properties, REDRIVES).and_then(number).unwrap_or(0)
}

/// Returns what a dead letter tells beside the original.
pub(crate) fn metadata(properties: &BasicProperties) -> Option<String> {
    match header(properties, DEAD_LETTER)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        _ => None,
    }
}

/// Returns the id of a dead letter. Those of earlier versions have none but what they tell.
pub(crate) fn dead_letter_id(properties: &BasicProperties, metadata: &str) -> DeadLetterId {
    match properties.message_id() {
        Some(id) => DeadLetterId::new(id.as_str()),
        None => DeadLetterId::new(bounded_name(&[metadata], 64)),
    }
}

/// Returns how often the broker has delivered a message before, where it counts.
pub(crate) fn deliveries(properties: &BasicProperties) -> u32 {
    header(properties, "x-delivery-count").and_then(number).unwrap_or(0)
}

/// Returns the properties of a dead letter that is put into its queue again, where its count begins anew.
pub(crate) fn put_back(properties: &BasicProperties) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default().inner().clone();
    headers.retain(|name, _| name.as_str() == DEAD_LETTER);
    properties.clone().with_headers(headers.into())
}

/// Returns the properties of a dead letter, which has no id yet.
pub(crate) fn dead_letter(metadata: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(DEAD_LETTER.into(), AMQPValue::LongString(metadata.into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_limits_are_counted_from_the_receipt_and_never_rounded_to_nothing() {
        for (limit, expected) in [(1, 1), (499_000, 499), (499_001, 500), (0, 1)] {
            let text = milliseconds_left(Instant::now() + Duration::from_micros(limit)).to_string();
            let properties = BasicProperties::default().with_expiration(text.into());
            let arrived = Instant::now() + Duration::from_secs(3_600);
            let deadline = deadline(&properties, arrived).unwrap();
            assert_eq!((deadline - arrived).as_millis(), expected, "{limit} us");
        }
    }

    #[test]
    fn odd_time_limits_are_none() {
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            let properties = BasicProperties::default().with_expiration(odd.into());
            assert_eq!(deadline(&properties, Instant::now()), None, "{odd}");
        }
    }

    #[test]
    fn what_is_given_back_keeps_its_count_and_goes_nowhere_else() {
        let mut headers = FieldTable::default();
        headers.insert(CC.into(), AMQPValue::FieldArray(Vec::new().into()));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(2));
        headers.insert("mine".into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default().with_headers(headers);
        assert_eq!(failed_attempts(&properties, true).total(), 2);
        let again = given_back(&properties, 2);
        let names: Vec<_> =
            again.headers().as_ref().unwrap().inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["mine", FAILED_ATTEMPTS]);
        assert_eq!(failed_attempts(&again, false), FailedAttempts { given_back: 2, by_broker: 0 });
        assert_eq!(failed_attempts(&again, true).total(), 3);
    }

    #[test]
    fn what_is_sent_again_goes_nowhere_else_and_keeps_its_count() {
        let mut headers = FieldTable::default();
        headers.insert(CC.into(), AMQPValue::FieldArray(Vec::new().into()));
        headers.insert("mine".into(), AMQPValue::Boolean(true));
        let again = redriven(&BasicProperties::default().with_headers(headers), 3);
        assert!(header(&again, CC).is_none() && header(&again, "mine").is_some());
        assert_eq!(failed_attempts(&again, false).total(), 0);
        assert_eq!((redrives(&again), redrives(&given_back(&again, 2))), (3, 3));
        assert_eq!(redrives(&BasicProperties::default()), 0);
    }

    #[test]
    fn a_letter_that_is_put_back_stays_what_it_is() {
        let mut letter = dead_letter("{}").with_message_id("id".into());
        letter = given_back(&letter, 1);
        let again = put_back(&letter);
        assert_eq!(again.headers().as_ref().unwrap().inner().len(), 1);
        assert_eq!(metadata(&again).as_deref(), Some("{}"));
        assert_eq!(dead_letter_id(&again, "{}").as_str(), "id");
        assert_eq!(dead_letter_id(&dead_letter("{}"), "{}"), dead_letter_id(&dead_letter("{}"), "{}"));
    }

    #[test]
    fn whatever_a_peer_counts_is_an_attempt() {
        for (given_back, by_broker, attempt) in [
            (0, 0, 1),
            (3, 1, 5),
            (u32::MAX.into(), 0, u32::MAX),
            (u32::MAX.into(), i64::MAX, u32::MAX),
            (-1, -1, 1),
        ] {
            let mut headers = FieldTable::default();
            headers.insert(FAILED_ATTEMPTS.into(), AMQPValue::LongLongInt(given_back));
            headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(by_broker));
            let properties = BasicProperties::default().with_headers(headers);
            assert_eq!(failed_attempts(&properties, false).attempt(), attempt, "{given_back} {by_broker}");
        }
    }
}
