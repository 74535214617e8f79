//! Whatever comes over the wire is a message or refused as [`ErrorKind::InvalidMessage`]; nothing panics.

use purista_core::{ErrorKind, Message};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{SENDER, message_with, samples};

const MUTATIONS: usize = 10_000;

fn assert_refused(wire: impl Into<Vec<u8>>, what: &str) {
    let wire = wire.into();
    match Message::decode(wire.clone()) {
        Ok(message) => panic!("{what} is taken for {message:?}: {}", String::from_utf8_lossy(&wire)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{what}"),
    }
}

#[test]
fn truncated_messages_are_refused() {
    for sample in samples::all().map(str::trim_end) {
        for end in 0..sample.len() {
            assert_refused(&sample.as_bytes()[..end], "a part");
        }
    }
}

#[test]
fn duplicate_fields_are_refused() {
    let receiver = r#"{"serviceName":"a","serviceVersion":"b","serviceTarget":"c"}"#;
    let text = [
        "id",
        "contentType",
        "contentEncoding",
        "traceId",
        "correlationId",
        "principalId",
        "tenantId",
        "eventName",
        "otp",
    ];
    let text = text.map(|key| (key, "\"x\""));
    let others = [("timestamp", "7"), ("receiver", receiver), ("isHandledError", "true"), ("payload", "1")];
    for (key, value) in text.into_iter().chain(others) {
        Message::decode(message_with("customMessage", &format!(r#","{key}":{value}"#))).unwrap();
        assert_refused(message_with("customMessage", &format!(r#","{key}":{value},"{key}":{value}"#)), key);
        assert_refused(message_with("customMessage", &format!(r#","{key}":null,"{key}":{value}"#)), key);
    }
    assert_refused(message_with("customMessage", r#","messageType":"customMessage""#), "messageType");
    assert_refused(message_with("customMessage", &format!(r#","sender":{SENDER}"#)), "sender");
    for key in ["serviceName", "serviceVersion", "serviceTarget", "instanceId"] {
        let twice = SENDER.replacen('{', &format!(r#"{{"{key}":"x","#), 1);
        assert_refused(format!(r#"{{"messageType":"customMessage","sender":{twice}}}"#), key);
    }
    for key in ["payload", "parameter"] {
        assert_refused(message_with("command", &format!(r#","payload":{{"{key}":1,"{key}":1}}"#)), key);
    }
}

#[test]
fn fields_of_the_wrong_type_are_refused() {
    let not_text = ["0", "true", "{}", "[]", "[\"x\"]", "1e3"];
    for key in [
        "id",
        "contentType",
        "contentEncoding",
        "traceId",
        "correlationId",
        "principalId",
        "tenantId",
        "eventName",
        "otp",
    ] {
        for value in not_text {
            assert_refused(message_with("customMessage", &format!(r#","{key}":{value}"#)), key);
        }
    }
    let wrong = [
        ("timestamp", &["-1", "1.5", "1e12", "\"7\"", "true", "{}", "18446744073709551616"][..]),
        ("isHandledError", &["0", "\"true\"", "{}"]),
        ("receiver", &["0", "\"x\"", "{}", "[]", r#"["a","b","c",null]"#, r#"{"serviceName":"a"}"#]),
    ];
    for (key, values) in wrong {
        for value in values {
            assert_refused(message_with("customMessage", &format!(r#","{key}":{value}"#)), key);
        }
    }
    for message_type in
        ["null", "0", "\"\"", "\"Command\"", "\"custommessage\"", "\"infoservice\"", "{\"command\":null}"]
    {
        assert_refused(format!(r#"{{"messageType":{message_type},"sender":{SENDER}}}"#), "messageType");
    }
    for sender in ["null", "0", "\"x\"", "{}", "[]", r#"["a","b","c","d"]"#] {
        assert_refused(format!(r#"{{"messageType":"customMessage","sender":{sender}}}"#), "sender");
    }
    for input in ["null", "0", "\"x\"", "[]", "[1,2]"] {
        assert_refused(message_with("command", &format!(r#","payload":{input}"#)), "a command's payload");
    }
}

#[test]
fn missing_fields_are_refused() {
    let call =
        r#""correlationId":"c-1","receiver":{"serviceName":"a","serviceVersion":"b","serviceTarget":"c"}"#;
    assert_refused(format!(r#"{{"sender":{SENDER}}}"#), "no messageType");
    assert_refused(r#"{"messageType":"customMessage"}"#, "no sender");
    for message_type in ["command", "commandSuccessResponse", "commandErrorResponse"] {
        for missing in ["correlationId", "receiver"] {
            let wire = message_with(message_type, "").replace(missing, "other");
            assert_refused(wire, message_type);
        }
    }
    for key in ["serviceName", "serviceVersion", "serviceTarget", "instanceId"] {
        let sender = SENDER.replace(key, "other");
        assert_refused(format!(r#"{{"messageType":"command","sender":{sender},{call}}}"#), key);
        if key != "instanceId" {
            let call = call.replace(key, "other");
            assert_refused(format!(r#"{{"messageType":"command","sender":{SENDER},{call}}}"#), key);
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    let sample = samples::all().next().unwrap().as_bytes();
    let not_utf8: [&[u8]; 6] =
        [&[0xff], &[0x80], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80], &[0xe2, 0x82]];
    for at in 0..=sample.len() {
        for bytes in not_utf8 {
            assert_refused([&sample[..at], bytes, &sample[at..]].concat(), "no UTF-8");
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    let sample = message_with("customMessage", "");
    for wire in
        ["", " ", "\0", "{", "}", "{}", "[]", "null", "7", "\"x\"", "{\"a\":1,}", "{a:1}", "\u{feff}{}"]
    {
        assert_refused(wire, "no object");
    }
    for around in ["\u{feff}#", "#,", "#x", "##", "[#]", "#\0", "// c\n#"] {
        assert_refused(around.replace('#', &sample), around);
    }
    let positional = format!(
        r#"["customMessage","id",7,"application/json","utf-8",null,null,null,null,null,null,{SENDER},null,null,1]"#
    );
    assert_refused(positional, "an array of the fields' values");
}

/// Bytes and tokens that mean something to a parser of JSON.
const TOKENS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"null",
    b"true",
    b"-",
    b"0",
    b"1e999",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xf0\x9f",
    b"\"payload\":",
    b"\"id\":",
    b"\"sender\":{",
    b"{\"payload\":",
];

fn mutate(random: &mut StdRng, wire: &mut Vec<u8>, samples: &[&str]) {
    let at = random.random_range(0..=wire.len());
    let end = random.random_range(at..=wire.len().min(at + 40));
    match random.random_range(0..6) {
        0 if at < wire.len() => wire[at] ^= 1 << random.random_range(0..8),
        1 => drop(wire.drain(at..end)),
        2 => {
            let copy = wire[at..end].to_vec();
            let to = random.random_range(0..=wire.len());
            drop(wire.splice(to..to, copy));
        }
        3 => wire.truncate(at),
        4 => {
            let other = samples[random.random_range(0..samples.len())].as_bytes();
            let from = random.random_range(0..other.len());
            let part = &other[from..other.len().min(from + 60)];
            drop(wire.splice(at..end, part.iter().copied()));
        }
        _ => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            drop(wire.splice(at..end.min(at + 4), token.iter().copied()));
        }
    }
}

#[test]
fn mutated_messages_are_taken_whole_or_refused() {
    let samples: Vec<&str> = samples::all().collect();
    let mut random = StdRng::seed_from_u64(0x5eed);
    let mut taken = 0;
    for _ in 0..MUTATIONS {
        let mut wire = samples[random.random_range(0..samples.len())].as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut random, &mut wire, &samples);
        }
        match Message::decode(wire.clone()) {
            Ok(message) => {
                taken += 1;
                let again = Message::decode(message.encode());
                assert_eq!(again.unwrap(), message, "{}", String::from_utf8_lossy(&wire));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidMessage),
        }
    }
    // Both outcomes were exercised.
    assert!((MUTATIONS / 20..MUTATIONS * 19 / 20).contains(&taken), "{taken} of {MUTATIONS} were messages");
}

/// What a peer of ours sent is read without the parser. With white space before it, the same text is none of ours.
#[test]
fn what_looks_like_ours_is_read_as_the_parser_reads_it() {
    let ours: Vec<_> = samples::all().map(|sample| Message::decode(sample).unwrap().encode()).collect();
    let texts: Vec<&str> = ours.iter().map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
    let mut random = StdRng::seed_from_u64(0x000c_0dec);
    let mut taken = 0;
    for _ in 0..10 * MUTATIONS {
        let mut wire = texts[random.random_range(0..texts.len())].as_bytes().to_vec();
        for _ in 0..random.random_range(0..3) {
            mutate(&mut random, &mut wire, &texts);
        }
        let parsed = Message::decode([b" ", wire.as_slice()].concat());
        match (Message::decode(wire.clone()), parsed) {
            (Ok(read), Ok(mut parsed)) => {
                taken += 1;
                if !wire.windows(5).any(|window| window == b"\"id\":") {
                    // Each receipt gave it one.
                    parsed.id.clone_from(&read.id);
                }
                if !wire.windows(12).any(|window| window == b"\"timestamp\":") {
                    parsed.timestamp = read.timestamp;
                }
                assert_eq!(read, parsed, "{}", String::from_utf8_lossy(&wire));
            }
            (Err(read), Err(parsed)) => assert_eq!(read.kind(), parsed.kind()),
            (read, parsed) => panic!("{read:?} and {parsed:?}: {}", String::from_utf8_lossy(&wire)),
        }
    }
    assert!((MUTATIONS..9 * MUTATIONS).contains(&taken), "{taken} were messages");
}
