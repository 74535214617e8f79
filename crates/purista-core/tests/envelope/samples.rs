//! Samples in the shapes that the TypeScript original puts on MQTT, AMQP, NATS and Dapr.

use std::collections::BTreeSet;

use purista_core::{Message, MessageType};
use serde_json::Value;

use super::Fields;

pub(crate) const FILES: [&str; 4] = [
    include_str!("../data/envelope/commands.jsonl"),
    include_str!("../data/envelope/responses.jsonl"),
    include_str!("../data/envelope/events.jsonl"),
    include_str!("../data/envelope/info.jsonl"),
];

pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().flat_map(str::lines)
}

const KNOWN: [&str; 15] = [
    "messageType",
    "id",
    "timestamp",
    "contentType",
    "contentEncoding",
    "traceId",
    "correlationId",
    "principalId",
    "tenantId",
    "eventName",
    "otp",
    "sender",
    "receiver",
    "isHandledError",
    "payload",
];
const KNOWN_OF_PARTY: [&str; 4] = ["serviceName", "serviceVersion", "serviceTarget", "instanceId"];
const KNOWN_OF_INPUT: [&str; 2] = ["payload", "parameter"];

fn fields(json: &str) -> Fields<'_> {
    serde_json::from_str(json).unwrap()
}

/// The known fields of an object: as values, so that the spelling of text does not matter.
fn values(json: &str, known: &[&str]) -> Value {
    let known = fields(json).into_iter().filter(|(key, _)| known.contains(&key.as_str()));
    known.map(|(key, value)| (key, serde_json::from_str::<Value>(value.get()).unwrap())).collect()
}

/// What a payload must keep: its text; of a command's, that of both inputs.
fn payload_texts<'a>(object: &Fields<'a>, message_type: MessageType) -> Vec<(String, &'a str)> {
    let whole = object.get("payload").map(|payload| payload.get());
    if message_type != MessageType::Command {
        return whole.map(|text| ("payload".to_owned(), text)).into_iter().collect();
    }
    let inputs =
        fields(whole.unwrap_or("{}")).into_iter().filter(|(key, _)| KNOWN_OF_INPUT.contains(&key.as_str()));
    inputs.map(|(key, value)| (key, value.get())).collect()
}

/// What a sample says of the envelope, after the differences that decoding is meant to make: unknown fields and
/// `null` are dropped, what the original leaves out is filled in.
fn expected_envelope(sample: &str, decoded: &Message) -> Value {
    let object = fields(sample);
    let mut expected = serde_json::Map::new();
    for (key, value) in &object {
        let value = match key.as_str() {
            "payload" => continue,
            "isHandledError" if decoded.message_type() != MessageType::CommandErrorResponse => continue,
            "sender" | "receiver" if value.get() != "null" => values(value.get(), &KNOWN_OF_PARTY),
            known if KNOWN.contains(&known) => serde_json::from_str(value.get()).unwrap(),
            _unknown => continue,
        };
        if !value.is_null() {
            expected.insert(key.clone(), value);
        }
    }
    let mut fill_in = |key: &str, value: Value| {
        expected.entry(key).or_insert(value);
    };
    fill_in("id", decoded.id.to_string().into());
    fill_in("timestamp", decoded.timestamp.into());
    fill_in("contentType", "application/json".into());
    fill_in("contentEncoding", "utf-8".into());
    fill_in("otp", "{}".into());
    if decoded.message_type() == MessageType::CommandErrorResponse {
        fill_in("isHandledError", false.into());
    }
    expected.into()
}

#[test]
fn samples_decode_and_encode_to_the_same_values() {
    for sample in all() {
        let decoded = Message::decode(sample).unwrap_or_else(|error| panic!("{error:?}: {sample}"));
        let encoded = String::from_utf8(decoded.encode().into()).unwrap();

        let (before, after) = (fields(sample), fields(&encoded));
        let envelope = values(&encoded, &KNOWN[..KNOWN.len() - 1]);
        assert_eq!(envelope, expected_envelope(sample, &decoded), "{sample}");
        let message_type = decoded.message_type();
        assert_eq!(payload_texts(&after, message_type), payload_texts(&before, message_type), "{sample}");
        assert!(after.keys().all(|key| KNOWN.contains(&key.as_str())), "{encoded}");
        assert_eq!(Message::decode(encoded).unwrap(), decoded, "{sample}");
    }
}

#[test]
fn samples_are_many_and_of_every_type() {
    let samples: BTreeSet<&str> = all().collect();
    assert_eq!(samples.len(), 87);
    let types: BTreeSet<MessageType> =
        samples.iter().map(|sample| Message::decode(*sample).unwrap().message_type()).collect();
    // The original of the samples has no streams yet.
    let expected = MessageType::ALL.iter().copied().filter(|it| *it != MessageType::Stream);
    assert_eq!(types, expected.collect());
}

#[test]
fn a_message_without_id_and_time_gets_them_on_receipt() {
    let sample =
        all().find(|sample| sample.contains("reorderPlaced") && !sample.contains(r#""id":"#)).unwrap();
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let [one, other] = [(); 2].map(|()| Message::decode(sample).unwrap());
    assert_ne!(one.id, other.id);
    assert!(
        one.id.to_string().bytes().all(|byte| byte.is_ascii_hexdigit()) && one.id.len() == 32,
        "{:?}",
        one.id
    );
    let until = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!((since..=until).contains(&one.timestamp.into()), "{} is not now", one.timestamp);
}
