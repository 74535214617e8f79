//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

#![expect(clippy::must_use_candidate, reason = "fuzz targets call it for what it returns")]

use std::time::Duration;

use async_nats::{
    HeaderMap, Message as Incoming, StatusCode,
    jetstream::{consumer, response::Response, stream},
};
use purista_core::{Filter, Id, Message, Result, ServiceAddress, adapter::Variables, fuzzing::Beside};
use tokio::time::Instant;

use crate::{
    NatsBridgeBuilder,
    address::{Names, consumer_name},
    codec::{self, DeliveryInfo},
    durable,
    error::{self, Violation},
    jetstream::{self, Confirm},
    pull_status::{Said, what_is_said},
    releases, streams,
};

/// Returns where the answer goes beside the rest.
pub fn beside(incoming: &Incoming) -> Beside<Option<String>> {
    let now = Instant::now();
    let time_limit = codec::deadline(incoming, now).map(|deadline| deadline - now);
    Beside::new(time_limit, codec::is_refusal(incoming), codec::handed_over_reply_to(incoming))
}

pub fn incoming(headers: HeaderMap) -> Incoming {
    codec::with(headers)
}

pub fn hand_over_headers(reply_to: Option<&str>, time_limit: Option<Duration>) -> HeaderMap {
    codec::hand_over_headers(reply_to, time_limit.map(|limit| Instant::now() + limit))
}

pub fn message_id_headers(id: &str) -> HeaderMap {
    codec::message_id_headers(id)
}

/// Returns how often a message was delivered, and its number in the stream.
pub fn delivery_info(reply_to: &str) -> Option<(u32, u64)> {
    codec::delivery_info(reply_to).map(|info| (info.delivered, info.sequence))
}

/// Returns which attempt a delivery is for, by what was noted when the message was given back.
pub fn attempt(noted: &[u8], delivered: u32) -> u32 {
    releases::attempt_after(releases::read(noted), DeliveryInfo { delivered, sequence: 0 })
}

/// Returns the subject that the server did not allow.
pub fn violation(text: &str) -> Option<String> {
    let (Violation::Publish(subject) | Violation::Subscription { subject, .. }) = error::violation(text)?;
    Some(subject)
}

/// Returns the largest batch that a pull request may ask for, if the server says so.
pub fn largest_batch(status: u16, description: &str) -> Option<usize> {
    match what_is_said(StatusCode::from_u16(status).ok()?, description) {
        Said::Refused(most) => most,
        _ => None,
    }
}

/// Reads the server's answer about a stream; returns its configuration, and what it lacks of one that is wanted.
pub fn stream_answer(payload: &[u8]) -> Option<(stream::Config, Vec<String>)> {
    let Ok(Response::<streams::Found>::Ok(found)) = serde_json::from_slice(payload) else { return None };
    let wanted =
        stream::Config { subjects: vec!["purista.custom_message.>".to_owned()], ..Default::default() };
    let found: stream::Config = serde_json::from_value(found.config).ok()?;
    let lacks = streams::missing_subjects(&wanted, &found);
    Some((found, lacks))
}

/// Reads the server's answer about a consumer.
pub fn consumer_answer(payload: &[u8]) -> Option<consumer::Config> {
    match serde_json::from_slice(payload) {
        Ok(Response::<durable::Info>::Ok(info)) => serde_json::from_value(info.config).ok(),
        _ => None,
    }
}

/// Reads the server's answer to a publish; returns whether it keeps the message.
pub fn is_kept(answer: &Incoming) -> bool {
    matches!(jetstream::confirm(answer), Confirm::Acknowledged)
}

pub fn covers(pattern: &str, narrower: &str) -> bool {
    streams::covers(pattern, narrower)
}

pub fn subject(prefix: &str, message: &Message) -> String {
    Names::standard(prefix).subject(message)
}

pub fn pattern(prefix: &str, filter: &Filter) -> String {
    Names::standard(prefix).pattern(filter)
}

/// Returns the names that are another one for another subscriber.
pub fn names_of(prefix: &str, address: &ServiceAddress) -> Vec<String> {
    vec![consumer_name(address, None), Names::standard(prefix).command_members(address)]
}

/// Returns the names that are another one for another instance of a subscriber.
pub fn names_at(prefix: &str, address: &ServiceAddress, instance_id: &Id) -> Vec<String> {
    let of_instance = consumer_name(address, Some(instance_id.as_str()));
    vec![of_instance, Names::standard(prefix).command_member(address, instance_id)]
}

/// Returns the names that others may share.
pub fn shared_names(prefix: &str, address: &ServiceAddress) -> Vec<String> {
    let names = Names::standard(prefix);
    vec![names.command_pattern(address), names.dead_letter(address), names.stream("events")]
}

pub fn queue_group(command: &ServiceAddress) -> String {
    Names::standard("purista").queue_group(command)
}

/// Configures a bridge by the environment. The errors are those of `from_env`.
pub fn from_variables(variables: &Variables) -> Result<NatsBridgeBuilder> {
    NatsBridgeBuilder::from_variables(variables)
}
