//! PAY-1, PAY-2 and PAY-6: payloads are kept to the byte, within a depth.

use std::collections::HashSet;

use purista_core::{
    CommandDraft, ErrorKind, EventDraft, HandledError, Id, MAX_DEPTH, Message, MessageType, Payload,
};

use super::message_with;

/// The wire of each place that a payload can be in.
fn places(json: &str) -> impl Iterator<Item = (String, String)> {
    let input = |key: &str| message_with("command", &format!(r#","payload":{{"{key}":{json}}}"#));
    let others = MessageType::ALL.iter().filter(|message_type| **message_type != MessageType::Command).map(
        move |other| (other.to_string(), message_with(other.as_str(), &format!(r#","payload":{json}"#))),
    );
    [("input".to_owned(), input("payload")), ("parameter".to_owned(), input("parameter"))]
        .into_iter()
        .chain(others.collect::<Vec<_>>())
}

fn text_in<'a>(message: &'a Message, place: &str) -> Option<&'a str> {
    let payload = if place == "parameter" { message.parameter() } else { message.payload() };
    payload.map(Payload::as_str)
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn absent_null_and_empty_values_stay_distinct() {
    let values = ["null", "\"\"", "{}", "[]", "0", "false"];
    for value in values {
        for (place, wire) in places(value) {
            let message = Message::decode(wire).unwrap();
            let again = Message::decode(message.encode()).unwrap();
            assert_eq!(text_in(&again, &place), Some(value), "{place}");
        }
    }
    for message_type in MessageType::ALL {
        let absent = Message::decode(message_with(message_type.as_str(), "")).unwrap();
        let absent = Message::decode(absent.encode()).unwrap();
        assert_eq!((absent.payload(), absent.parameter()), (None, None), "{message_type}");
    }
    let event = EventDraft::custom(("Stock", "1", "watch"));
    let distinct: HashSet<Option<String>> = values
        .into_iter()
        .map(|value| event.clone().with_payload(Payload::from_json_text(value).unwrap()))
        .chain([event.clone()])
        .map(|draft| Message::decode(draft.stamp(&Id::random()).encode()).unwrap())
        .map(|message| message.payload().map(|payload| payload.as_str().to_owned()))
        .collect();
    assert_eq!(distinct.len(), 7);
}

#[test]
fn payloads_keep_every_byte_of_their_text() {
    let texts = [
        "\"🚀𝒳\u{10ffff}\"",
        "\"שלום \u{202e}dlrow\u{202c} مرحبا\"",
        r#""nul \u0000 and \u001f""#,
        r#""lone \ud800 and \udc00 surrogates""#,
        r#""\ud83d\ude80 \u00E9 \/ \b\f\n\r\t""#,
        "{\"\u{2028}\":\"\u{7f}\u{feff}\",\"e\u{301}\":\"é\"}",
        "[ 1 ,\t2 ,\r\n 3 ]",
        r#"{"a":1,"a":2}"#,
        "98765432109876543210987.000000000000000000012",
        "1E-400",
        "-0",
    ];
    for text in texts {
        assert_eq!(Payload::from_json_text(text).unwrap().as_str(), text);
        for (place, wire) in places(text) {
            let message = Message::decode(wire).unwrap();
            assert_eq!(text_in(&message, &place), Some(text), "{place}");
            assert_eq!(text_in(&Message::decode(message.encode()).unwrap(), &place), Some(text), "{place}");
        }
    }
}

#[test]
fn names_and_ids_are_text_or_refused() {
    let names = ["🚀𝒳", "שלום\u{202e}", "\0", "a\0b", "\"\\/", "\u{7f}\u{80}\u{feff}", "e\u{301}", " \t\n"];
    let event = |name: &str| {
        EventDraft::event((name, name, name), name)
            .with_principal_id(name)
            .with_tenant_id(name)
            .with_trace_id(name)
            .with_correlation_id(name)
            .with_receiver((name, name, name))
            .stamp(&Id::from(name))
    };
    for name in names {
        let sent = event(name);
        let received = Message::decode(sent.encode()).unwrap();
        assert_eq!(received, sent);
        assert_eq!(received.event_name.as_deref(), Some(name));
    }
    for key in
        ["id", "traceId", "correlationId", "principalId", "tenantId", "eventName", "otp", "contentType"]
    {
        let lone_surrogate = message_with("infoServiceReady", &format!(r#","{key}":"\ud800""#));
        assert_eq!(Message::decode(lone_surrogate).unwrap_err().kind(), ErrorKind::InvalidMessage, "{key}");
    }
}

#[test]
fn payloads_nest_to_the_limit_and_no_deeper() {
    assert_eq!(MAX_DEPTH, 127);
    for (place, wire) in places(&nested(127)) {
        let message = Message::decode(wire).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let again = Message::decode(message.encode()).unwrap();
        let text = text_in(&again, &place).unwrap();
        assert_eq!(text.len(), 2 * 127);
        serde_json::from_str::<serde_json::Value>(text).unwrap();
    }
    for depth in [128, 129, 100_000] {
        for (place, wire) in places(&nested(depth)) {
            let error = Message::decode(wire).expect_err(&place);
            assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{place} at {depth}");
        }
        let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(Payload::from_json_text(objects).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[test]
fn what_can_be_sent_can_be_received() {
    let deepest = || Payload::from_json_text(nested(MAX_DEPTH)).unwrap();
    let event = EventDraft::custom(("Stock", "1", "watch")).with_payload(deepest());
    let command = CommandDraft::new(("Counter", "2", "order"), ("Warehouse", "3", "reserve"))
        .with_payload(deepest())
        .with_parameter(deepest());
    for sent in [event.stamp(&Id::random()), command.stamp(&Id::random())] {
        assert_eq!(Message::decode(sent.encode()).unwrap(), sent);
    }
}

#[test]
fn depth_outside_of_the_payload_is_survived() {
    let deep = nested(100_000);
    Message::decode(message_with("customMessage", &format!(r#","unknown":{deep}"#))).unwrap();
    for key in ["id", "timestamp", "eventName", "receiver", "isHandledError"] {
        let wire = message_with("customMessage", &format!(r#","{key}":{deep}"#));
        assert_eq!(Message::decode(wire).unwrap_err().kind(), ErrorKind::InvalidMessage, "{key}");
    }
    for wire in [deep, "[".repeat(100_000), r#"{"payload":"#.repeat(100_000)] {
        assert_eq!(Message::decode(wire).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}

#[test]
fn payloads_share_the_received_bytes() {
    for (place, wire) in places(r#"{"sku":"LAMP-17"}"#) {
        let received = bytes::Bytes::from(wire);
        let message = Message::decode(received.clone()).unwrap();
        let text = text_in(&message, &place).unwrap();
        assert!(received.as_ptr_range().contains(&text.as_ptr()), "{place}");
        let copy = message.clone();
        assert_eq!(text_in(&copy, &place).map(str::as_ptr), Some(text.as_ptr()), "{place}");
    }
}

#[test]
fn error_data_is_a_payload_like_any_other() {
    let data = HandledError::not_found("gone").with_data(&["\0", "🚀"]).unwrap();
    assert_eq!(data.data().map(Payload::as_str), Some("[\"\\u0000\",\"🚀\"]"));
    assert!(HandledError::not_found("gone").with_data(&Some(1)).is_ok());
    let unrepresentable = std::collections::HashMap::from([((1, 2), 3)]);
    let error = HandledError::not_found("gone").with_data(&unrepresentable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
}
