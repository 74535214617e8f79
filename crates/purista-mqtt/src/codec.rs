//! Messages with what travels beside them (wire format, section 3).

use std::time::Duration;

use bytes::Bytes;
use purista_core::{
    MAX_TIMEOUT, Message,
    adapter::{deadline_after, milliseconds_left},
};
use rumqttc::{Publish, PublishOptions, PublishProperties};
use tokio::time::Instant;

use crate::options::seconds;

/// Marks a response that says: this command is not for me.
const REFUSED: &str = "purista-refused";

/// Tells how many milliseconds the caller of a command waits; the expiry has whole seconds.
const TIME_LIMIT: &str = "purista-time-limit";

/// Tells how many attempts of a message have failed that one instance hands over to another.
const FAILED_ATTEMPTS: &str = "purista-failed-attempts";

/// Tells what an instance listens to that asks whether others are there.
const LISTENS_TO: &str = "purista-listens-to";

/// Counts how often instances have given a command back to those who share it.
const GIVEN_BACK: &str = "purista-given-back";

/// What a dead letter tells beside the original.
const DEAD_LETTER: &str = "purista-dead-letter";

/// How long a message waits for its subscribers, as with the original.
const EVENT_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is known of a command for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    correlation_data: Option<Bytes>,
}

impl Reply {
    /// Reads it from a command.
    pub(crate) fn to(publish: &Publish) -> Self {
        let properties = publish.properties.as_ref();
        Self { correlation_data: properties.and_then(|properties| properties.correlation_data.clone()) }
    }
}

/// What travels beside a message.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    pub(crate) properties: PublishProperties,
    /// Whether the broker keeps the message for whoever subscribes later.
    is_retained: bool,
}

impl Headers {
    fn retained(self) -> Self {
        Self { is_retained: true, ..self }
    }

    /// Makes the client's options of it.
    pub(crate) fn into_options(self) -> PublishOptions {
        PublishOptions::at_least_once().retain(self.is_retained).properties(self.properties)
    }
}

fn properties(expiry: Duration) -> PublishProperties {
    PublishProperties {
        // One of zero seconds is over at once.
        message_expiry_interval: Some(seconds(expiry).max(1)),
        content_type: Some("application/json".to_owned()),
        ..PublishProperties::default()
    }
}

const fn beside(properties: PublishProperties) -> Headers {
    Headers { properties, is_retained: false }
}

/// What travels beside an event.
pub(crate) fn event() -> Headers {
    beside(properties(EVENT_EXPIRY))
}

/// What travels beside a command.
pub(crate) fn command(command: &Message, deadline: Instant) -> Headers {
    let correlation_id = command.correlation_id.as_ref();
    let mut properties = PublishProperties {
        correlation_data: correlation_id.map(|id| Bytes::copy_from_slice(id.as_bytes())),
        ..properties(Duration::ZERO)
    };
    limit(&mut properties, deadline);
    beside(properties)
}

/// Tells how long the caller of a command still waits.
fn limit(properties: &mut PublishProperties, deadline: Instant) {
    let left = milliseconds_left(deadline);
    properties.message_expiry_interval = Some(seconds(Duration::from_millis(left)));
    set(properties, TIME_LIMIT, left.to_string());
}

fn set(properties: &mut PublishProperties, name: &str, value: String) {
    properties.user_properties.retain(|(known, _)| known != name);
    properties.user_properties.push((name.to_owned(), value));
}

/// What travels beside an answer. It may wait longer than its caller does: for a subscription.
pub(crate) fn response(reply: &Reply) -> Headers {
    beside(PublishProperties { correlation_data: reply.correlation_data.clone(), ..properties(EVENT_EXPIRY) })
}

/// What travels beside a refusal.
pub(crate) fn refusal(reply: Reply) -> Headers {
    beside(PublishProperties {
        correlation_data: reply.correlation_data,
        user_properties: vec![(REFUSED.to_owned(), "1".to_owned())],
        ..properties(EVENT_EXPIRY)
    })
}

/// What travels beside a message that one instance passes on to another.
pub(crate) fn passed_on(publish: &Publish, failed_attempts: u32) -> Headers {
    beside(passed_on_properties(publish, failed_attempts))
}

pub(crate) fn passed_on_properties(publish: &Publish, failed_attempts: u32) -> PublishProperties {
    let mut properties = publish.properties.clone().unwrap_or_default();
    properties.subscription_identifiers.clear();
    properties.topic_alias = None;
    properties.user_properties.retain(|(name, _)| name != FAILED_ATTEMPTS);
    if failed_attempts > 0 {
        properties.user_properties.push((FAILED_ATTEMPTS.to_owned(), failed_attempts.to_string()));
    }
    properties
}

/// What travels beside the copy of a message that its subscriber has in hand.
pub(crate) fn parked(publish: &Publish, failed_attempts: u32) -> Headers {
    passed_on(publish, failed_attempts).retained()
}

/// What travels beside a command that one instance passes on to another, with what is left of its time.
pub(crate) fn command_passed_on(publish: &Publish, deadline: Option<Instant>) -> Headers {
    let mut properties = passed_on_properties(publish, 0);
    if let Some(deadline) = deadline {
        limit(&mut properties, deadline);
    }
    beside(properties)
}

/// What travels beside a command that is given back to those who share it.
pub(crate) fn given_back(publish: &Publish, times: u32, deadline: Option<Instant>) -> Headers {
    let mut headers = command_passed_on(publish, deadline);
    set(&mut headers.properties, GIVEN_BACK, times.to_string());
    headers
}

/// Returns how often a command was given back to those who share it.
pub(crate) fn times_given_back(publish: &Publish) -> u32 {
    user_property(publish, GIVEN_BACK).and_then(|times| times.parse().ok()).unwrap_or(0)
}

/// What travels beside something that is of no use later.
pub(crate) fn probe() -> Headers {
    beside(PublishProperties { message_expiry_interval: Some(1), ..PublishProperties::default() })
}

/// What travels beside a question whether somebody is there, and listens to the same.
pub(crate) fn question(response_topic: String, listens_to: Option<&str>) -> Headers {
    let listens_to = listens_to.map(|same| (LISTENS_TO.to_owned(), same.to_owned()));
    beside(PublishProperties {
        message_expiry_interval: Some(1),
        response_topic: Some(response_topic),
        user_properties: listens_to.into_iter().collect(),
        ..PublishProperties::default()
    })
}

/// Returns what somebody listens to who asks.
pub(crate) fn listens_to(question: &Publish) -> Option<&str> {
    user_property(question, LISTENS_TO)
}

/// What travels beside something that tells what came before it, however long that takes.
pub(crate) fn marker() -> Headers {
    beside(properties(MAX_TIMEOUT))
}

/// What travels beside something that the broker keeps until it is replaced, or for a time.
pub(crate) fn kept(expiry: Option<Duration>) -> Headers {
    beside(PublishProperties { message_expiry_interval: expiry.map(seconds), ..PublishProperties::default() })
        .retained()
}

/// What travels beside a dead letter.
pub(crate) fn dead_letter(metadata: &str) -> Headers {
    beside(dead_letter_properties(metadata)).retained()
}

pub(crate) fn dead_letter_properties(metadata: &str) -> PublishProperties {
    PublishProperties {
        content_type: Some("application/json".to_owned()),
        user_properties: vec![(DEAD_LETTER.to_owned(), ascii(metadata))],
        ..PublishProperties::default()
    }
}

/// Escapes all in JSON that is no printable ASCII. A broker ends the connection of who sends control characters or
/// noncharacters as text, so a dead letter about them could never be kept.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => escaped.push(character),
            _ => escaped
                .extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    escaped
}

fn user_property<'p>(publish: &'p Publish, wanted: &str) -> Option<&'p str> {
    let properties = &publish.properties.as_ref()?.user_properties;
    properties.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// Returns a field of a message that the original repeats beside it.
pub(crate) fn property(publish: &Publish, field: &str) -> Option<String> {
    if field == "correlationId" {
        let data = publish.properties.as_ref()?.correlation_data.as_ref()?;
        return String::from_utf8(data.to_vec()).ok();
    }
    user_property(publish, field).map(str::to_owned)
}

/// Returns whether a response is a refusal.
pub(crate) fn is_refusal(publish: &Publish) -> bool {
    user_property(publish, REFUSED).is_some()
}

/// Returns how often a message has failed at other instances.
pub(crate) fn failed_attempts(publish: &Publish) -> u32 {
    user_property(publish, FAILED_ATTEMPTS).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Returns when the caller of a command stops waiting, if it tells: in milliseconds as a bridge of ours, or as the expiry
/// alone, from which the broker has taken off what the command waited there. If both are there, the earlier one counts.
pub(crate) fn deadline(publish: &Publish, arrived: Instant) -> Option<Instant> {
    let told = user_property(publish, TIME_LIMIT).and_then(|left| deadline_after(left, arrived));
    let seconds = publish.properties.as_ref().and_then(|properties| properties.message_expiry_interval);
    let expires = seconds.map(|left| arrived + Duration::from_secs(left.into()).min(MAX_TIMEOUT));
    told.into_iter().chain(expires).min()
}

#[cfg(test)]
mod tests {
    use rumqttc::QoS;

    use super::*;

    fn with(properties: PublishProperties) -> Publish {
        Publish::new("topic", QoS::AtLeastOnce, "", Some(properties))
    }

    #[tokio::test(start_paused = true)]
    async fn time_limits_are_rounded_up_to_whole_seconds() {
        for (left, expected) in [(0, 1), (1, 1), (499, 1), (1_000, 1), (1_001, 2), (30_000, 30)] {
            let properties = properties(Duration::from_millis(left));
            assert_eq!(properties.message_expiry_interval, Some(expected), "{left} ms");
            let arrived = Instant::now();
            let deadline = deadline(&with(properties), arrived).unwrap();
            assert_eq!((deadline - arrived).as_secs(), u64::from(expected));
        }
        assert_eq!(deadline(&with(PublishProperties::default()), Instant::now()), None);
    }

    /// A command of ours that travels with what is left of this time limit.
    fn limited(left: Duration) -> Publish {
        let mut properties = PublishProperties::default();
        limit(&mut properties, Instant::now() + left);
        with(properties)
    }

    #[tokio::test(start_paused = true)]
    async fn time_limits_of_ours_arrive_to_the_millisecond() {
        for (left, milliseconds, seconds) in
            [(0, 1, 1), (1, 1, 1), (499_000, 499, 1), (1_000_001, 1_001, 2), (30_000_000, 30_000, 30)]
        {
            let command = limited(Duration::from_micros(left));
            let arrived = Instant::now();
            assert_eq!(deadline(&command, arrived), Some(arrived + Duration::from_millis(milliseconds)));
            let expiry = command.properties.unwrap().message_expiry_interval;
            assert_eq!(expiry, Some(seconds), "{left} us");
        }
        assert_eq!(seconds(MAX_TIMEOUT), 24 * 60 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_broker_takes_off_a_time_limit_counts() {
        let mut command = limited(Duration::from_millis(9_500));
        command.properties.as_mut().unwrap().message_expiry_interval = Some(3);
        let arrived = Instant::now();
        assert_eq!(deadline(&command, arrived), Some(arrived + Duration::from_secs(3)));
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            set(command.properties.as_mut().unwrap(), TIME_LIMIT, odd.to_owned());
            assert_eq!(deadline(&command, arrived), Some(arrived + Duration::from_secs(3)), "{odd}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_is_passed_on_with_what_is_left_of_its_time() {
        let command = limited(Duration::from_millis(9_500));
        let until = deadline(&command, Instant::now());
        tokio::time::advance(Duration::from_millis(7_200)).await;
        let now = Instant::now();
        for headers in [command_passed_on(&command, until), given_back(&command, 1, until)] {
            assert_eq!(headers.properties.message_expiry_interval, Some(3));
            assert_eq!(deadline(&with(headers.properties), now), until);
        }
        let unlimited = with(PublishProperties::default());
        for headers in [command_passed_on(&unlimited, None), given_back(&unlimited, 1, None)] {
            assert_eq!(deadline(&with(headers.properties), now), None);
        }
    }

    #[test]
    fn metadata_of_dead_letters_are_printable_and_mean_the_same() {
        let text = "a\0\u{1}\u{7f}\u{85}\u{fdd0}\u{ffff}\u{10ffff}\u{65e5}\"\\ ~";
        let escaped = ascii(&serde_json::to_string(text).unwrap());
        assert!(escaped.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }

    #[test]
    fn odd_counts_are_none() {
        for odd in ["", "-1", "many", "99999999999"] {
            let user_properties = vec![(FAILED_ATTEMPTS.to_owned(), odd.to_owned())];
            assert_eq!(
                failed_attempts(&with(PublishProperties { user_properties, ..Default::default() })),
                0
            );
        }
    }
}
