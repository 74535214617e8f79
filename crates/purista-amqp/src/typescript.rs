//! The topology of the TypeScript original: one headers exchange, and its names (wire format, section 4).

use lapin::{
    ExchangeKind,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{
    Command, Filter, Granted, Id, Message, MessageType, ServiceAddress, Sharing, Subscription,
    routing::bounded_name,
};

use crate::{
    address::{MAX_SHORT_STRING, Names, command_key, reply_key},
    codec::{Reply, properties},
    config::Config,
    native::prefetch,
    topology::{Binding, ExchangeSpec, Gate, Plan, QueueSpec, Route},
};

#[derive(Clone, Debug)]
pub(crate) struct TypeScript {
    pub(crate) names: Names,
    exchange: String,
    max_queue_length: Option<u32>,
}

impl TypeScript {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            names: Names::new(&config.connection.prefix),
            exchange: config.exchange_name.clone().unwrap_or_else(|| config.connection.prefix.clone()),
            max_queue_length: config.max_queue_length,
        }
    }

    pub(crate) fn exchanges(&self) -> Vec<ExchangeSpec> {
        let of = |name: String, kind| ExchangeSpec { name: name.into(), kind };
        vec![of(self.exchange.clone(), ExchangeKind::Headers), of(self.instances(), ExchangeKind::Direct)]
    }

    /// Returns the exchange over which a command is passed on to the instance that it is meant for. The original has
    /// none: it executes such a command wherever it comes.
    fn instances(&self) -> String {
        format!("{}.instances", self.names.prefix)
    }

    pub(crate) fn to_instance(
        &self,
        command: &ServiceAddress,
        instance_id: &Id,
    ) -> (ShortString, ShortString) {
        (self.instances().into(), command_key(command, Some(instance_id)).into())
    }

    pub(crate) fn replies(&self, instance_id: &Id) -> Plan {
        let name = self.names.of_instance("reply", &reply_key(instance_id));
        let mut queue = QueueSpec::exclusive(format!("{name}.{}", Id::random()).into());
        // Its binding names it.
        queue.is_named_anew = false;
        let binding = self.matching([("replyTo", Some(queue.name.as_str()))]);
        Plan::exclusive(queue, binding, u16::MAX)
    }

    pub(crate) fn route(&self, message: &Message, reply: &Reply) -> Route {
        let mut headers = headers(message);
        // A stream is answered by frames of it.
        let is_response = message.message_type() != MessageType::Command;
        if let (true, Some(to)) = (is_response, &reply.to) {
            headers.insert("replyTo".into(), AMQPValue::LongString(to.as_str().into()));
        }
        let mut properties = properties(message, reply, headers)
            .with_timestamp(message.timestamp)
            .with_type(message.message_type().as_str().into())
            .with_delivery_mode(2);
        if let (false, Some(to)) = (is_response, &reply.to) {
            properties = properties.with_reply_to(to.clone());
        }
        let exchange = self.exchange.as_str().into();
        Route { exchange, routing_key: ShortString::default(), properties }
    }

    pub(crate) fn command(&self, command: &Command, granted: &Granted, instance_id: &Id) -> Vec<Plan> {
        let address = &command.address;
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        let name = self.queue_name("cmd", address);
        let binding = self.to_command(address, MessageType::Command);
        let shared = Plan {
            queue: QueueSpec { name, options, arguments: FieldTable::default(), is_named_anew: false },
            gate: None,
            bindings: vec![binding],
            durable: false,
            removed_when_unused: false,
            prefetch: prefetch(granted),
        };
        let (exchange, routing_key) = self.to_instance(address, instance_id);
        let to_us = Binding { exchange, routing_key, arguments: FieldTable::default() };
        let own =
            QueueSpec::exclusive(self.names.of_instance("instance", &command_key(address, None)).into());
        let mut own = Plan::exclusive(own, to_us, prefetch(granted));
        // Not to the shared queue: version 2 of the original knows no streams.
        own.bindings.push(self.to_command(address, MessageType::Stream));
        vec![shared, own]
    }

    pub(crate) fn subscription(
        &self,
        subscription: &Subscription,
        granted: &Granted,
        instance_id: &Id,
    ) -> Plan {
        let bindings = vec![self.binding(&subscription.filter)];
        let options = QueueDeclareOptions { durable: granted.durable, ..QueueDeclareOptions::default() };
        let name = match (granted.sharing, granted.durable) {
            (Sharing::Broadcast, false) => {
                self.names.of_instance("broadcast", &command_key(&subscription.subscriber, None)).into()
            }
            // The original has no broadcast that is kept.
            (Sharing::Broadcast, true) => {
                self.names.subscription(&subscription.subscriber, Some(instance_id)).into()
            }
            _ => self.queue_of(&subscription.subscriber),
        };
        let is_exclusive = granted.sharing == Sharing::Broadcast && !granted.durable;
        let mut queue = match is_exclusive {
            true => QueueSpec::exclusive(name),
            false => QueueSpec { name, options, arguments: FieldTable::default(), is_named_anew: false },
        };
        if let Some(messages) = self.max_queue_length {
            queue.limit(messages);
        }
        let gate = Gate {
            turn: self.names.turn(queue.name.as_str()).into(),
            name: queue.name.clone(),
            auto_delete: false,
            fingerprint: self.names.filter(&bounded_name(&[&subscription.filter.exact()], 64)).into(),
        };
        Plan {
            queue,
            gate: (!is_exclusive).then_some(gate),
            bindings,
            durable: granted.durable,
            removed_when_unused: !granted.durable && !is_exclusive,
            prefetch: prefetch(granted),
        }
    }

    /// Returns the queue that the instances of a subscriber share.
    pub(crate) fn queue_of(&self, subscriber: &ServiceAddress) -> ShortString {
        self.queue_name("sub", subscriber)
    }

    /// Returns the original's name of a queue; one of our own where it could not have one: no name is longer than 255
    /// bytes, and RabbitMQ takes line breaks out.
    fn queue_name(&self, what: &str, address: &ServiceAddress) -> ShortString {
        let ServiceAddress { service_name, service_version, service_target, .. } = address;
        let prefix = format!("{}.{what}", self.names.prefix);
        let name = format!("{prefix}.{service_name}.{service_version}.{service_target}");
        if name.len() > MAX_SHORT_STRING || name.contains(['\r', '\n']) {
            return format!("{prefix}.{}", command_key(address, None)).into();
        }
        name.into()
    }

    /// Asks for what has headers; what has none in some message that may match is left to the matcher.
    fn binding(&self, filter: &Filter) -> Binding {
        let Filter { message_type, event_name, principal_id, tenant_id, sender, receiver, .. } = filter;
        let is_addressed = message_type.is_some_and(|it| it == MessageType::Command || it.is_response());
        let of_receiver = if is_addressed { receiver.clone() } else { Default::default() };
        let instance_id = sender.instance_id.as_ref().map(ToString::to_string);
        self.matching([
            ("messageType", message_type.map(MessageType::as_str)),
            ("eventName", event_name.as_deref()),
            ("principalId", principal_id.as_deref()),
            ("tenantId", tenant_id.as_deref()),
            ("senderServiceName", sender.service_name.as_deref()),
            ("senderServiceVersion", sender.service_version.as_deref()),
            ("senderServiceTarget", sender.service_target.as_deref()),
            ("senderInstanceId", instance_id.as_deref()),
            ("receiverServiceName", of_receiver.service_name.as_deref()),
            ("receiverServiceVersion", of_receiver.service_version.as_deref()),
            ("receiverServiceTarget", of_receiver.service_target.as_deref()),
        ])
    }

    fn to_command(&self, address: &ServiceAddress, message_type: MessageType) -> Binding {
        self.matching([
            ("messageType", Some(message_type.as_str())),
            ("receiverServiceName", Some(&*address.service_name)),
            ("receiverServiceVersion", Some(&*address.service_version)),
            ("receiverServiceTarget", Some(&*address.service_target)),
        ])
    }

    fn matching<'a>(&self, wanted: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Binding {
        let mut arguments = FieldTable::default();
        arguments.insert("x-match".into(), text("all"));
        for (name, value) in wanted {
            if let Some(value) = value {
                arguments.insert(name.into(), text(value));
            }
        }
        Binding { exchange: self.exchange.as_str().into(), routing_key: ShortString::default(), arguments }
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Returns the headers of a message: what the original routes by.
fn headers(message: &Message) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in routing_fields(message) {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers
}

/// Returns whether a header that a peer sent contradicts its message.
pub(crate) fn contradicts(message: &Message, headers: Option<&FieldTable>) -> Option<&'static str> {
    let headers = headers?;
    let fields = routing_fields(message);
    NAMES.into_iter().find(|name| {
        let sent = headers.inner().get(*name);
        let own = fields.iter().find(|(known, _)| known == name);
        match (sent, own) {
            (Some(AMQPValue::LongString(sent)), Some((_, own))) => sent.as_bytes() != own.as_bytes(),
            (Some(_), _) => true,
            (None, _) => false,
        }
    })
}

const NAMES: [&str; 12] = [
    "messageType",
    "senderServiceName",
    "senderServiceVersion",
    "senderServiceTarget",
    "senderInstanceId",
    "eventName",
    "principalId",
    "tenantId",
    "receiverServiceName",
    "receiverServiceVersion",
    "receiverServiceTarget",
    "receiverServiceInstanceId",
];

fn routing_fields(message: &Message) -> Vec<(&'static str, String)> {
    let message_type = message.message_type();
    let sender = &message.sender;
    let mut fields = vec![
        ("messageType", message_type.as_str().to_owned()),
        ("senderServiceName", sender.address.service_name.to_string()),
        ("senderServiceVersion", sender.address.service_version.to_string()),
        ("senderServiceTarget", sender.address.service_target.to_string()),
        ("senderInstanceId", sender.instance_id.to_string()),
    ];
    let optional = [
        ("eventName", &message.event_name),
        ("principalId", &message.principal_id),
        ("tenantId", &message.tenant_id),
    ];
    fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.to_string()))));
    if let Some(receiver) = &message.receiver
        && (matches!(message_type, MessageType::Command | MessageType::Stream) || message_type.is_response())
    {
        fields.extend([
            ("receiverServiceName", receiver.address.service_name.to_string()),
            ("receiverServiceVersion", receiver.address.service_version.to_string()),
            ("receiverServiceTarget", receiver.address.service_target.to_string()),
        ]);
        if let (true, Some(instance_id)) = (message_type != MessageType::Command, &receiver.instance_id) {
            fields.push(("receiverServiceInstanceId", instance_id.to_string()));
        }
    }
    fields
}
