//! Dead letters: what is told of them is one line within the limits of headers, and is read back.

use bytes::Bytes;
use purista_core::adapter::DeadLetter;
use rumqttc::{Publish, QoS};

use crate::{Verdict, input};

/// The longest text that MQTT has is 65,535 bytes, and the least of all headers.
const MAX_HEADER: usize = 65_535;

/// The longest names that a registration has.
const MAX_NAME: usize = 255;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Some(text) = input::text(data) else { return Verdict::Refused };
    let original = Bytes::from_static(b"{}");
    let Ok(letter) = DeadLetter::from_metadata(&text, original.clone()) else { return Verdict::Refused };
    let metadata = letter.metadata();
    assert!(
        !metadata.chars().any(|character| character.is_ascii_control() && character != '\u{7f}'),
        "{metadata}"
    );
    let again = DeadLetter::from_metadata(&metadata, original).expect("what was written is read");
    assert!(letter.reason.starts_with(&again.reason));
    assert_eq!(again.subscriber, letter.subscriber);
    assert_eq!(
        (again.attempts, again.first_attempt_at, again.last_attempt_at),
        (letter.attempts, letter.first_attempt_at, letter.last_attempt_at)
    );
    assert_eq!(again.metadata(), metadata);
    let subscriber = &letter.subscriber;
    let names = [&subscriber.service_name, &subscriber.service_version, &subscriber.service_target];
    if names.iter().all(|name| name.len() <= MAX_NAME) {
        check_headers(&letter);
    }
    Verdict::Accepted
}

/// A subscriber's names are those of a registration, the rest is foreign.
fn check_headers(letter: &DeadLetter) {
    let metadata = letter.metadata();
    let properties = purista_mqtt::fuzzing::dead_letter(&metadata);
    let (_, value) = properties.user_properties.first().expect("it is told").clone();
    assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value}");
    assert!(value.len() <= MAX_HEADER, "{} bytes", value.len());
    let again = DeadLetter::from_metadata(&value, letter.original.clone());
    assert_eq!(again.expect("what was written is read").metadata(), metadata);
    let mut publish = Publish::new("topic", QoS::AtLeastOnce, letter.original.clone(), Some(properties));
    publish.pkid = 1;
    publish.write(&mut bytes::BytesMut::new()).expect("it has a form in MQTT");
    let _has_a_form = purista_amqp::fuzzing::dead_letter(&metadata);
    let event = purista_dapr::fuzzing::dead_letter(letter, "purista-dead-letter");
    assert!(serde_json::from_slice::<serde_json::Value>(&event).is_ok_and(|event| event.is_object()));
}
