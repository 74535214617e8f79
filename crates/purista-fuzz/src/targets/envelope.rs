//! The envelope: what is accepted says what was sent, and is encoded and decoded to the same.

use purista_core::{Id, Message};
use serde_json::Value;

use crate::{Verdict, input};

/// What an envelope can get that its sender left out: ids, time and the fields with a default.
const LEFT_OUT: usize = 512;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let text = input::expand(data);
    // With white space before it, a message is read by the parser whoever wrote it.
    let parsed = Message::decode([b" ", text.as_slice()].concat());
    let Ok(message) = Message::decode(text.clone()) else {
        assert!(parsed.is_err(), "{parsed:?}");
        return Verdict::Refused;
    };
    let mut parsed = parsed.expect("both are read");
    // Where the sender gave none, each receipt does; where it did, they are compared below.
    parsed.timestamp = message.timestamp;
    parsed.id.clone_from(&message.id);
    assert_eq!(parsed, message);
    let encoded = message.encode();
    assert!(encoded.len() <= text.len() + LEFT_OUT, "{} bytes of {}", encoded.len(), text.len());
    let again = Message::decode(encoded.clone()).expect("what was encoded is decoded");
    assert_eq!(again, message);
    assert_eq!(again.encode(), encoded);
    says_what_was_sent(&message, &text);
    if message.correlation_id.is_some() {
        let answer = message.unavailable(&Id::from("instance"));
        assert_eq!(Message::decode(answer.encode()).expect("an answer is a message"), answer);
        answer.error_payload().expect("it carries an error");
    }
    Verdict::Accepted
}

/// Compares a message with what another parser reads.
fn says_what_was_sent(message: &Message, text: &[u8]) {
    // It refuses numbers and surrogates that are passed on as they are.
    let Ok(Value::Object(sent)) = serde_json::from_slice(text) else { return };
    let of = |object: &Value, field: &str| object.get(field).and_then(Value::as_str).map(str::to_owned);
    let sent = Value::Object(sent);
    let id = |id: &Option<Id>| id.as_ref().map(Id::to_string);
    let name = |name: &Option<purista_core::Name>| name.as_ref().map(ToString::to_string);
    assert_eq!(of(&sent, "messageType").as_deref(), Some(message.message_type().as_str()));
    assert_eq!(of(&sent, "correlationId"), id(&message.correlation_id));
    assert_eq!(of(&sent, "traceId"), id(&message.trace_id));
    assert_eq!(of(&sent, "eventName"), name(&message.event_name));
    assert_eq!(of(&sent, "tenantId"), name(&message.tenant_id));
    assert_eq!(of(&sent, "principalId"), name(&message.principal_id));
    if let Some(id) = of(&sent, "id") {
        assert_eq!(id, message.id.to_string());
    }
    if let Some(timestamp) = sent.get("timestamp").and_then(Value::as_u64) {
        assert_eq!(timestamp, message.timestamp);
    }
    let sender = &sent["sender"];
    assert_eq!(of(sender, "serviceName").as_deref(), Some(&*message.sender.address.service_name));
    assert_eq!(of(sender, "instanceId"), Some(message.sender.instance_id.to_string()));
    let receiver = message.receiver.as_ref();
    let target = receiver.map(|receiver| receiver.address.service_target.to_string());
    assert_eq!(of(&sent["receiver"], "serviceTarget"), target);
    let payloads = match &message.body {
        purista_core::Body::Command { .. } => &sent["payload"],
        _ => &sent,
    };
    for (field, payload) in [("payload", message.payload()), ("parameter", message.parameter())] {
        if let Some(payload) = payload {
            let value: Value = payload.deserialize().expect("the other parser reads it");
            assert_eq!(payloads.get(field), Some(&value));
        }
    }
    if message.payload().is_none() {
        assert_eq!(payloads.get("payload"), None);
    }
}
