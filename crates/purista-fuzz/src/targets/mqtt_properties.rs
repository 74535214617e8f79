//! Messages of MQTT: whatever a peer sets, counts and time limits stay within bounds, and what is passed on can be sent.

use bytes::BytesMut;
use purista_core::MAX_TIMEOUT;
use purista_mqtt::fuzzing as mqtt;
use rumqttc::{Packet, Publish, QoS};

use crate::{Verdict, input};

/// The largest packet that is read.
const MAX_PACKET: u32 = 1 << 20;

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Some((&flags, data)) = data.split_first() else { return Verdict::Refused };
    let written_out = input::expand(data);
    let data = if flags & 2 == 0 { data } else { &written_out };
    let Ok(Packet::Publish(publish)) = Packet::read(&mut BytesMut::from(data), Some(MAX_PACKET)) else {
        return Verdict::Refused;
    };
    let beside = mqtt::beside(&publish);
    assert!(beside.time_limit.is_none_or(|limit| limit <= MAX_TIMEOUT), "{beside:?}");
    for failed_attempts in [0, 1, beside.more, u32::MAX] {
        let passed_on = Publish {
            qos: QoS::AtLeastOnce,
            dup: false,
            pkid: 1,
            properties: Some(mqtt::passed_on(&publish, failed_attempts)),
            ..publish.clone()
        };
        let again = mqtt::beside(&passed_on);
        assert_eq!(again.more, failed_attempts);
        assert_eq!(
            (again.is_refusal, again.time_limit.is_some()),
            (beside.is_refusal, beside.time_limit.is_some())
        );
        let mut written = BytesMut::new();
        passed_on.write(&mut written).expect("what came can be passed on");
        let read = Packet::read(&mut written, None).expect("what was written is read");
        let Packet::Publish(mut read) = read else { panic!("{read:?}") };
        // None and nothing are the same on the wire.
        read.properties.get_or_insert_default();
        assert_eq!(read, passed_on);
    }
    Verdict::Accepted
}
