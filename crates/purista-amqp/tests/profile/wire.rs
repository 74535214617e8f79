//! The wire as a foreign peer knows it, written down a second time.

use std::fmt::Display;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use purista_core::{
    Error, ErrorKind, Id, Message, MessageType, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

const STYLE: AddressStyle = AddressStyle::new('.', '*', "none", "#").with_max_token_len(64);

/// Where a foreign peer publishes.
pub(crate) struct Route {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: BasicProperties,
}

pub(crate) fn native(prefix: &str, message: &Message) -> Route {
    let event = message.event_name.as_ref().map(|name| format!("event-{}", bounded_name(&[name], 140)));
    let receiver = message.receiver.as_ref();
    let instance = receiver.and_then(|receiver| receiver.instance_id.as_ref());
    let (exchange, routing_key) = match message.message_type() {
        MessageType::Command => (
            "commands",
            receiver.map(|receiver| command_key(&receiver.address, instance)).unwrap_or_default(),
        ),
        MessageType::CommandSuccessResponse | MessageType::CommandErrorResponse => {
            ("responses", instance.map(|id| bounded_name(&[id], 140)).unwrap_or_default())
        }
        _ => ("events", event.clone().unwrap_or_default()),
    };
    let further = [Some(message.routing_address(prefix, &STYLE)), event];
    let further: Vec<_> = further.into_iter().flatten().map(text).collect();
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(further.into()));
    Route {
        exchange: format!("{prefix}.{exchange}"),
        routing_key,
        properties: BasicProperties::default().with_headers(headers),
    }
}

/// `reply_queue` is where the receiver of a response reads.
pub(crate) fn typescript(prefix: &str, message: &Message, reply_queue: Option<String>) -> Route {
    let message_type = message.message_type();
    let sender = &message.sender;
    let mut fields = vec![
        ("messageType", Some(message_type.as_str().to_owned())),
        ("senderServiceName", Some(sender.address.service_name.to_string())),
        ("senderServiceVersion", Some(sender.address.service_version.to_string())),
        ("senderServiceTarget", Some(sender.address.service_target.to_string())),
        ("senderInstanceId", Some(sender.instance_id.to_string())),
        ("eventName", message.event_name.as_ref().map(ToString::to_string)),
        ("principalId", message.principal_id.as_ref().map(ToString::to_string)),
        ("tenantId", message.tenant_id.as_ref().map(ToString::to_string)),
        ("replyTo", reply_queue),
    ];
    if let Some(receiver) = &message.receiver
        && (message_type == MessageType::Command || message_type.is_response())
    {
        let ServiceAddress { service_name, service_version, service_target, .. } = &receiver.address;
        fields.extend([
            ("receiverServiceName", Some(service_name.to_string())),
            ("receiverServiceVersion", Some(service_version.to_string())),
            ("receiverServiceTarget", Some(service_target.to_string())),
        ]);
    }
    let mut headers = FieldTable::default();
    for (name, value) in fields {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers);
    Route { exchange: prefix.to_owned(), routing_key: String::new(), properties }
}

fn text(value: String) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn command_key(address: &ServiceAddress, instance_id: Option<&Id>) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = address;
    let instance_id = instance_id.map(ToString::to_string);
    let mut parts: Vec<&str> = vec![service_name, service_version, service_target];
    parts.extend(instance_id.as_deref());
    bounded_name(&parts, 140)
}

/// Returns what the names of the queues of an address begin with, for commands and for subscriptions.
pub(crate) fn queues_of(prefix: &str, is_typescript: bool, address: &ServiceAddress) -> Vec<String> {
    let key = command_key(address, None);
    let mut names = vec![format!("{prefix}.subscription.{key}"), format!("{prefix}.broadcast.{key}.")];
    if is_typescript {
        let ServiceAddress { service_name, service_version, service_target, .. } = address;
        for what in ["cmd", "sub"] {
            names.push(format!("{prefix}.{what}.{key}"));
            names.push(format!("{prefix}.{what}.{service_name}.{service_version}.{service_target}"));
        }
    } else {
        names.push(format!("{prefix}.command.{key}"));
    }
    names
}

pub(crate) fn reply_queue_of(prefix: &str, instance_id: &Id) -> String {
    format!("{prefix}.reply.{}.", bounded_name(&[instance_id], 140))
}

pub(crate) fn dead_letters(prefix: &str) -> String {
    format!("{prefix}.dead-letters")
}

pub(crate) fn unavailable(cause: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test").with_context(format!("{cause:#}"))
}
