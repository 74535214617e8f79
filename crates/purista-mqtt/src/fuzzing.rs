//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

#![expect(clippy::must_use_candidate, reason = "fuzz targets call it for what it returns")]

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use purista_core::{Filter, Id, Message, Result, ServiceAddress, adapter::Variables, fuzzing::Beside};
use rumqttc::{Publish, PublishProperties};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    time::Instant,
};

use crate::{
    MqttBridgeBuilder,
    address::Names,
    codec,
    puback::{KnownReasons, OddReasons},
    session_record::{SessionRecord, SessionState},
    settling,
    tapped::Tapped,
};

/// Returns how many attempts failed beside the rest.
pub fn beside(publish: &Publish) -> Beside<u32> {
    let now = Instant::now();
    let time_limit = codec::deadline(publish, now).map(|deadline| deadline - now);
    Beside::new(time_limit, codec::is_refusal(publish), codec::failed_attempts(publish))
}

/// Returns what travels beside a message that is passed on.
pub fn passed_on(publish: &Publish, failed_attempts: u32) -> PublishProperties {
    codec::passed_on_properties(publish, failed_attempts)
}

pub fn dead_letter(metadata: &str) -> PublishProperties {
    codec::dead_letter_properties(metadata)
}

/// What the client finds in what a broker sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scanned {
    pub bytes: Vec<u8>,
    /// Whether the broker answers as MQTT 3 has it.
    pub is_outdated: bool,
    odd: OddReasons,
}

impl Scanned {
    /// Takes the reason of an acknowledgement that the client does not know.
    pub fn take_odd(&self, packet_id: u16) -> Option<u8> {
        self.odd.take(packet_id)
    }
}

/// Reads a stream of packets in pieces of one length.
pub fn known_reasons(stream: &[u8], piece: usize) -> Scanned {
    let odd = OddReasons::default();
    let mut scanned = Scanned { bytes: Vec::new(), is_outdated: false, odd: odd.clone() };
    let mut stream = Tapped::new(stream, KnownReasons::new(odd));
    let mut piece = vec![0; piece];
    loop {
        let mut buffer = ReadBuf::new(&mut piece);
        let read = Pin::new(&mut stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        match read {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                scanned.bytes.extend_from_slice(buffer.filled())
            }
            read => {
                scanned.is_outdated = matches!(read, Poll::Ready(Err(_)));
                return scanned;
            }
        }
    }
}

/// Reads the record of a session, and writes it again; returns whether it waits for an instance, too.
pub fn session_record(payload: &[u8]) -> Option<(bool, Vec<u8>)> {
    let record = SessionRecord::read(payload)?;
    Some((record.state == SessionState::Waiting, record.write().into()))
}

pub fn still_missing(needed: Duration, uptime: &[u8]) -> Duration {
    settling::still_missing(needed, uptime)
}

/// Returns whether an answer may go to a topic that somebody names who asks.
pub fn may_be_answered(prefix: &str, topic: &str) -> bool {
    Names::standard(prefix).is_round_trip(topic)
}

pub fn topic(prefix: &str, message: &Message) -> String {
    Names::standard(prefix).topic(message)
}

pub fn pattern(prefix: &str, filter: &Filter) -> String {
    Names::standard(prefix).pattern(filter)
}

/// Returns the names that are another one for another subscriber.
pub fn names_of(prefix: &str, address: &ServiceAddress) -> Vec<String> {
    let names = Names::standard(prefix);
    vec![names.command_members(address), names.hand_over(address), names.presence(address)]
}

/// Returns the names that are another one for another instance of a subscriber.
pub fn names_at(prefix: &str, address: &ServiceAddress, instance_id: &Id) -> Vec<String> {
    let names = Names::standard(prefix);
    let client = names.subscriber_client(address, instance_id);
    vec![names.command_member(address, instance_id), names.session(address, &client), client]
}

/// Returns the names that others may share.
pub fn shared_names(prefix: &str, address: &ServiceAddress, message_id: &Id) -> Vec<String> {
    let names = Names::standard(prefix);
    vec![names.command(address).concat(), names.dead_letter(address, message_id)]
}

pub fn is_subscriber_client(prefix: &str, address: &ServiceAddress, client_id: &str) -> bool {
    Names::standard(prefix).is_subscriber_client(address, client_id)
}

/// Configures a bridge by the environment. The errors are those of `from_env`.
pub fn from_variables(variables: &Variables) -> Result<MqttBridgeBuilder> {
    MqttBridgeBuilder::from_variables(variables)
}
