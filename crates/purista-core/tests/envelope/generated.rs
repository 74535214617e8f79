//! ENV-1 and ENV-2: what is set arrives, what is absent stays absent.

use std::collections::BTreeSet;

use proptest::{
    collection::{hash_map, vec},
    option,
    prelude::*,
    sample::select,
    test_runner::TestRunner,
};
use purista_core::{
    Body, CommandDraft, EventDraft, Id, Message, MessageType, Payload, Receiver, ServiceAddress, TraceContext,
};
use serde_json::{Value, json};

use super::message_with;

const CASES_PER_TYPE: u32 = 256;

/// The envelope as plain text, written down apart from the code under test.
#[derive(Clone, Debug, PartialEq)]
struct Wire {
    message_type: MessageType,
    id: String,
    timestamp: u64,
    content_type: String,
    content_encoding: String,
    trace_id: Option<String>,
    correlation_id: Option<String>,
    principal_id: Option<String>,
    tenant_id: Option<String>,
    event_name: Option<String>,
    otp: String,
    sender: ([String; 3], String),
    receiver: Option<([String; 3], Option<String>)>,
    handled: bool,
    payload: Option<String>,
    parameter: Option<String>,
}

impl Wire {
    /// Reads a message field by field.
    fn of(message: &Message) -> Self {
        let names = |address: &ServiceAddress| {
            [&address.service_name, &address.service_version, &address.service_target]
                .map(ToString::to_string)
        };
        let text = |id: &Id| id.to_string();
        Self {
            message_type: message.message_type(),
            id: text(&message.id),
            timestamp: message.timestamp,
            content_type: message.content_type.to_string(),
            content_encoding: message.content_encoding.to_string(),
            trace_id: message.trace_id.as_ref().map(text),
            correlation_id: message.correlation_id.as_ref().map(text),
            principal_id: message.principal_id.as_ref().map(ToString::to_string),
            tenant_id: message.tenant_id.as_ref().map(ToString::to_string),
            event_name: message.event_name.as_ref().map(ToString::to_string),
            otp: message.trace_context.as_otp().to_owned(),
            sender: (names(&message.sender.address), text(&message.sender.instance_id)),
            receiver: message
                .receiver
                .as_ref()
                .map(|receiver| (names(&receiver.address), receiver.instance_id.as_ref().map(text))),
            handled: matches!(message.body, Body::CommandErrorResponse { handled: true, .. }),
            payload: message.payload().map(|payload| payload.as_str().to_owned()),
            parameter: message.parameter().map(|parameter| parameter.as_str().to_owned()),
        }
    }

    /// Writes the envelope as a peer would.
    fn json(&self) -> String {
        let mut envelope = json!({
            "messageType": self.message_type.as_str(),
            "id": self.id,
            "timestamp": self.timestamp,
            "contentType": self.content_type,
            "contentEncoding": self.content_encoding,
            "otp": self.otp,
            "sender": party(&self.sender.0, Some(&self.sender.1)),
        });
        let optional = [
            ("traceId", &self.trace_id),
            ("correlationId", &self.correlation_id),
            ("principalId", &self.principal_id),
            ("tenantId", &self.tenant_id),
            ("eventName", &self.event_name),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                envelope[key] = value.as_str().into();
            }
        }
        if let Some((names, instance_id)) = &self.receiver {
            envelope["receiver"] = party(names, instance_id.as_ref());
        }
        if self.message_type == MessageType::CommandErrorResponse {
            envelope["isHandledError"] = self.handled.into();
        }
        let mut text = envelope.to_string();
        let payload =
            |key: &str, json: &Option<String>| json.as_ref().map(|json| format!(r#""{key}":{json}"#));
        let mut payloads = [payload("payload", &self.payload), payload("parameter", &self.parameter)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(",");
        if self.message_type == MessageType::Command {
            payloads = format!(r#""payload":{{{payloads}}}"#);
        }
        if !payloads.is_empty() {
            text.truncate(text.len() - 1);
            text = format!("{text},{payloads}}}");
        }
        text
    }
}

fn party(names: &[String; 3], instance_id: Option<&String>) -> Value {
    let mut party = json!({ "serviceName": names[0], "serviceVersion": names[1], "serviceTarget": names[2] });
    if let Some(instance_id) = instance_id {
        party["instanceId"] = instance_id.as_str().into();
    }
    party
}

#[rustfmt::skip]
const TEXTS: [&str; 20] = [
    "", " ", "\0", "\u{1}\u{1f}", "\u{7f}", "\"", "\\", "\\u0041", "\r\n\t", "</script>", "{}", "null", "🚀", "日本語",
    "\u{202e}rtl", "e\u{301}", "é", "\u{2028}\u{2029}", "\u{ffff}\u{10ffff}", "0af7651916cd43dd8448eb211c80319c",
];

/// Texts and numbers whose spelling a parser would not keep.
#[rustfmt::skip]
const PAYLOADS: [&str; 14] = [
    "null", "false", "0", "-0", "\"\"", "{}", "[]", "1e400", "0.10", "12345678901234567890123.000", "\"\\ud800\"",
    "\"\\/\\u0041\\u0000\"", "{\"a\":1,\"a\":2}", "[ 1 ,\n2 ]",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_.-]{1,40}",
        "[0-9a-f]{32}",
        "(?s).{0,30}",
        select(&TEXTS[..]).prop_map(str::to_owned)
    ]
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            hash_map(text(), inner, 0..4).prop_map(|object| object.into_iter().collect()),
        ]
    });
    prop_oneof![value.prop_map(|value| value.to_string()), select(&PAYLOADS[..]).prop_map(str::to_owned)]
}

fn names() -> impl Strategy<Value = [String; 3]> {
    [text(), text(), text()]
}

fn given<S: Strategy + 'static>(always: bool, value: S) -> BoxedStrategy<Option<S::Value>> {
    if always { value.prop_map(Some).boxed() } else { option::of(value).boxed() }
}

fn wire(message_type: MessageType) -> impl Strategy<Value = Wire> {
    let is_call =
        message_type.is_response() || matches!(message_type, MessageType::Command | MessageType::Stream);
    let origin = (text(), any::<u64>(), text(), text(), text(), (names(), text()));
    let ids = (option::of(text()), given(is_call, text()), option::of(text()), option::of(text()));
    let receiver = given(is_call, (names(), option::of(text())));
    let content =
        (option::of(text()), receiver, any::<bool>(), option::of(json_text()), option::of(json_text()));
    (origin, ids, content).prop_map(move |(origin, ids, content)| {
        let (id, timestamp, content_type, content_encoding, otp, sender) = origin;
        let (trace_id, correlation_id, principal_id, tenant_id) = ids;
        let (event_name, receiver, handled, payload, parameter) = content;
        Wire {
            message_type,
            id,
            timestamp,
            content_type,
            content_encoding,
            trace_id,
            correlation_id,
            principal_id,
            tenant_id,
            event_name,
            otp,
            sender,
            receiver,
            handled: handled && message_type == MessageType::CommandErrorResponse,
            payload,
            parameter: parameter.filter(|_| message_type == MessageType::Command),
        }
    })
}

#[test]
fn every_field_of_every_type_arrives() {
    for message_type in MessageType::ALL {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES_PER_TYPE));
        let result = runner.run(&wire(*message_type), |wire| {
            let received = Message::decode(wire.json())?;
            prop_assert_eq!(Wire::of(&received), wire);
            prop_assert_eq!(Message::decode(received.encode())?, received);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{message_type}: {failure}"));
    }
}

#[test]
fn drafts_arrive_with_all_that_was_set() {
    let bridge = Id::from("bridge \"7\"");
    let traced =
        TraceContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
    let content = Payload::json(&json!({ "pieces": 4, "note": "\0 ü 🚀" })).unwrap();
    let receiver = Receiver::new(("Warehouse", "3", "reserve")).with_instance_id("w-1");

    let event = EventDraft::event(("Stock", "1", "watch"), "stock\nlow")
        .with_principal_id("clerk 9")
        .with_tenant_id("租户")
        .with_trace_id("trace")
        .with_trace_context(traced.clone())
        .with_correlation_id("correlation")
        .with_receiver(receiver.clone())
        .with_payload(content.clone())
        .stamp(&bridge);
    let command = CommandDraft::new(("Counter", "2", "order"), receiver)
        .with_event_name("reservationRequested")
        .with_principal_id("clerk 9")
        .with_tenant_id("租户")
        .with_trace_id("trace")
        .with_trace_context(traced)
        .with_payload(content.clone())
        .with_parameter(content)
        .stamp(&bridge);
    for message in [event, command] {
        let received = Message::decode(message.encode()).unwrap();
        assert_eq!(Wire::of(&received), Wire::of(&message));
        assert_eq!(received, message);
        assert_eq!(received.sender.instance_id, bridge);
    }
}

#[test]
fn absent_fields_give_no_key() {
    let always = ["messageType", "id", "timestamp", "contentType", "contentEncoding", "otp", "sender"];
    for message_type in MessageType::ALL {
        let more: &[&str] = match message_type {
            MessageType::Command => &["correlationId", "receiver", "payload"],
            MessageType::CommandSuccessResponse | MessageType::Stream => &["correlationId", "receiver"],
            MessageType::CommandErrorResponse => &["correlationId", "receiver", "isHandledError"],
            _ => &[],
        };
        let message = Message::decode(message_with(message_type.as_str(), "")).unwrap();
        let encoded: Value = serde_json::from_slice(&message.encode()).unwrap();
        let keys: BTreeSet<&str> = encoded.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, always.iter().chain(more).copied().collect(), "{message_type}");
        if *message_type == MessageType::Command {
            assert_eq!(encoded["payload"], json!({}));
        }
        if let Some(receiver) = encoded.get("receiver") {
            assert_eq!(receiver.as_object().unwrap().len(), 3, "{receiver}");
        }
        assert!(!encoded.to_string().contains("null"), "{encoded}");
    }
    let custom = EventDraft::custom(("Stock", "1", "watch")).stamp(&Id::random());
    let encoded: Value = serde_json::from_slice(&custom.encode()).unwrap();
    assert_eq!(encoded.as_object().unwrap().len(), always.len());
}
