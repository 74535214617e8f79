//! The wire as a foreign peer knows it, written down a second time.

use std::fmt::Display;

use purista_core::{
    Error, ErrorKind, Filter, Message, MessageType, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

const STYLE: AddressStyle = AddressStyle::new('.', '*', "empty", ">$").with_max_token_len(255);

pub(crate) fn subject(prefix: &str, message: &Message) -> String {
    message.routing_address(prefix, &STYLE)
}

pub(crate) fn command_pattern(prefix: &str, command: &ServiceAddress) -> String {
    Filter::message_type(MessageType::Command).with_receiver(command).routing_pattern(prefix, &STYLE)
}

/// Returns the subject of an event, or of what a pattern asks for instead, that the pattern matches.
pub(crate) fn any_of(pattern: &str) -> String {
    let token = |(position, token)| match (position, token) {
        (1, "*") => "custom_message",
        (_, "*") => "anything",
        (_, token) => token,
    };
    pattern.split('.').enumerate().map(token).collect::<Vec<_>>().join(".")
}

pub(crate) fn consumer_name(subscriber: &ServiceAddress) -> String {
    bounded_name(&[&subscriber.service_name, &subscriber.service_version, &subscriber.service_target], 200)
}

/// Returns the queue group that the original gives a command or subscriber.
pub(crate) fn queue_group(prefix: &str, address: &ServiceAddress) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = address;
    format!("{prefix}_QUEUE_{service_name}_{service_version}_{service_target}").to_uppercase()
}

pub(crate) fn stream(prefix: &str, what: &str) -> String {
    format!("{prefix}-{what}")
}

pub(crate) fn unavailable(cause: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test").with_context(format!("{cause:#}"))
}
