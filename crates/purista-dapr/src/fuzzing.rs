//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

#![expect(clippy::must_use_candidate, reason = "fuzz targets call it for what it returns")]

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use purista_cloudevents::Malformed;
use purista_core::{
    Error, Message, Result, ServiceAddress,
    adapter::{DeadLetter, Variables},
};
use tokio::time::Instant;

use crate::{
    DaprBridgeBuilder, address, app_channel,
    cloud_event::{self, Destination},
    codec,
    error::Refusal,
    sidecar::Metadata,
};

/// Reads a message and its bytes from a CloudEvent. The error tells whether it is a CloudEvent.
///
/// # Errors
///
/// If it is none, or holds no message.
pub fn received(headers: &HeaderMap, body: &Bytes) -> Result<(Message, Bytes), (bool, Error)> {
    match purista_cloudevents::received(headers, body) {
        Ok(received) => Ok((received.message, received.original)),
        Err(Malformed::NoCloudEvent(error)) => Err((false, error)),
        Err(Malformed::NoMessage(error)) => Err((true, error)),
    }
}

const fn destination(topic: &str) -> Destination<'_> {
    Destination { source: "app-user-v1", pubsub_name: "pubsub", topic, is_for_all: false }
}

pub fn cloud_event(message: &Message, envelope: &[u8], topic: &str) -> Bytes {
    cloud_event::cloud_event(message, envelope, destination(topic))
}

pub fn dead_letter(letter: &DeadLetter, topic: &str) -> Bytes {
    cloud_event::dead_letter(letter, destination(topic))
}

pub fn are_readable(json: &[u8]) -> bool {
    purista_cloudevents::are_readable(json)
}

/// Reads the answer to a command.
///
/// # Errors
///
/// [`InvalidMessage`](purista_core::ErrorKind::InvalidMessage) if it is none.
pub fn answer(command: &Message, status: StatusCode, body: Bytes) -> Result<Message> {
    codec::answer(command, status, body)
}

/// Makes the answer of an app that answers with a status only.
///
/// # Errors
///
/// None.
pub fn failed(command: &Message, status: StatusCode) -> Result<Message> {
    codec::failed(command, status)
}

pub fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let before = Instant::now();
    app_channel::deadline(headers).map(|deadline| deadline - before)
}

/// Reads what a sidecar says of itself: its app id, and at which port it calls its app.
pub fn metadata(body: &[u8]) -> Option<(String, Option<u16>)> {
    let metadata: Metadata = serde_json::from_slice(body).ok()?;
    let _either = (metadata.component_type("pubsub"), metadata.is_subscribed("pubsub", "topic"));
    let port = metadata.app_port();
    Some((metadata.app_id, port))
}

/// Reads what a sidecar says when it fails.
pub fn sidecar_error(body: &[u8], status: StatusCode) -> Error {
    Refusal::read(status, body).into_error("invoke", body.len(), body.len())
}

/// Returns the topic of an event, beside one that is taken.
pub fn topic(event_name: &str, reserved: &str) -> String {
    address::topic(event_name, &[reserved], false)
}

/// Returns app id and path of a command.
pub fn shared_names(command: &ServiceAddress) -> [String; 2] {
    [address::app_id(command), address::command_path(command)]
}

/// Configures a bridge by the environment. The errors are those of `from_env`.
pub fn from_variables(variables: &Variables) -> Result<DaprBridgeBuilder> {
    DaprBridgeBuilder::from_variables(variables)
}
