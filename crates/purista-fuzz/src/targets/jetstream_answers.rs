//! What JetStream's API answers: what is read of a stream or consumer is written back as it was.

use async_nats::Message;
use purista_nats::fuzzing as nats;

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let payload = input::expand(data);
    let stream = nats::stream_answer(&payload);
    if let Some((config, lacks)) = &stream {
        assert!(lacks.len() <= 1);
        assert_eq!(
            lacks.is_empty(),
            config.subjects.iter().any(|it| nats::covers(it, "purista.custom_message.>"))
        );
        let written = serde_json::to_vec(config).expect("a configuration has a form in JSON");
        let again = format!(r#"{{"config":{}}}"#, String::from_utf8_lossy(&written));
        let (again, _) = nats::stream_answer(again.as_bytes()).expect("what was written is read");
        assert_eq!(again, *config);
    }
    let consumer = nats::consumer_answer(&payload);
    if let Some(config) = &consumer {
        let written = serde_json::to_vec(config).expect("a configuration has a form in JSON");
        let again = format!(r#"{{"config":{}}}"#, String::from_utf8_lossy(&written));
        let again = nats::consumer_answer(again.as_bytes()).expect("what was written is read");
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
    }
    let answer = Message {
        subject: "subject".into(),
        reply: None,
        payload: payload.into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    let is_kept = nats::is_kept(&answer);
    Verdict::accepted(stream.is_some() || consumer.is_some() || is_kept)
}
