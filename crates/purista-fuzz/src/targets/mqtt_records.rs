//! What is kept at an MQTT broker, where anybody may write, and what others ask.

use std::time::Duration;

use purista_mqtt::fuzzing as mqtt;

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut fields = input::fields(data);
    let [record, uptime, topic] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let read = mqtt::session_record(&record);
    if let Some((is_waiting, written)) = &read {
        assert_eq!(written, &record);
        assert_eq!(*is_waiting, record.starts_with(b"waiting "));
    }
    let needed = Duration::from_millis(2_500);
    assert!(mqtt::still_missing(needed, &uptime) <= needed);
    let topic = String::from_utf8_lossy(&topic);
    let is_answered = mqtt::may_be_answered("purista", &topic);
    if is_answered {
        assert!(rumqttc::valid_topic(&topic) && !topic.contains(char::is_control), "{topic:?}");
        assert!(topic.starts_with("purista/round_trip/") && topic.split('/').count() == 3, "{topic:?}");
        assert!(topic.len() <= 512, "{} bytes", topic.len());
    }
    Verdict::accepted(read.is_some() || is_answered)
}
