//! The wire as a foreign peer knows it, written down a second time.

use std::fmt::Display;

use purista_core::{
    Error, ErrorKind, Filter, Id, Message, MessageType, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

const STYLE: AddressStyle = AddressStyle::new('/', '+', "none", "#$").with_max_token_len(255);

/// How long a client id can be.
const MAX_CLIENT_ID: usize = 200;

pub(crate) fn topic(prefix: &str, message: &Message) -> String {
    message.routing_address(prefix, &STYLE)
}

pub(crate) fn commands_of(prefix: &str, command: &ServiceAddress) -> String {
    let commands = Filter::message_type(MessageType::Command).with_receiver(command);
    shared(&commands.routing_pattern(prefix, &STYLE))
}

/// Returns the topics of the events with this name.
pub(crate) fn events_named(prefix: &str, name: &str) -> String {
    Filter::event(name).routing_pattern(prefix, &STYLE)
}

/// Returns what those listen to who serve commands whose names have these tokens.
pub(crate) fn command_filter(prefix: &str, name: &str, version: &str, target: &str) -> String {
    shared(&format!("{prefix}/command/{}{name}/{version}/{target}", "+/".repeat(8)))
}

fn shared(commands: &str) -> String {
    format!("$share/sharedpurista/{commands}")
}

/// Returns the topic of an event, or of what a filter asks for instead, that the filter matches.
pub(crate) fn any_of(filter: &str) -> String {
    let pattern = match filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/')) {
        Some((_group, pattern)) => pattern,
        None => filter,
    };
    let level = |(position, level)| match (position, level) {
        (1, "+") => "custom_message",
        (_, "+") => "anything",
        (_, level) => level,
    };
    pattern.split('/').enumerate().map(level).collect::<Vec<_>>().join("/")
}

/// Returns the client id of a bridge.
pub(crate) fn bridge_client(prefix: &str, instance_id: &Id) -> String {
    bounded_name(&[prefix, instance_id], MAX_CLIENT_ID)
}

/// Returns the client id of a subscriber on one bridge.
pub(crate) fn subscriber_client(prefix: &str, subscriber: &ServiceAddress, instance_id: &Id) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
    let parts = [prefix, service_name, service_version, service_target, instance_id.as_str()];
    bounded_name(&parts, MAX_CLIENT_ID)
}

/// Returns the filter of all dead letters.
pub(crate) fn dead_letters(prefix: &str) -> String {
    format!("{prefix}/dead_letter/+/+/+/+")
}

pub(crate) fn unavailable(cause: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test").with_context(format!("{cause:#}"))
}
