//! What is declared at the broker, and where messages go.

use lapin::{
    BasicProperties, ExchangeKind,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{Command, Granted, Id, Message, ServiceAddress, Subscription};

use crate::{
    codec::Reply,
    config::{Config, QueueType},
    native::Native,
    typescript::TypeScript,
};

/// How messages are mapped onto exchanges and queues.
#[derive(Clone, Debug)]
pub(crate) enum Topology {
    Native(Native),
    TypeScript(TypeScript),
}

/// Where a message is published.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
}

/// An exchange that is there as long as its system is in use.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeSpec {
    pub(crate) name: ShortString,
    pub(crate) kind: ExchangeKind,
}

/// A queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueSpec {
    pub(crate) name: ShortString,
    pub(crate) options: QueueDeclareOptions,
    pub(crate) arguments: FieldTable,
    /// Whether each connection gives it another name, as the broker may still keep the one of a connection that is lost.
    pub(crate) is_named_anew: bool,
}

/// What a queue gets.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) arguments: FieldTable,
}

/// The exchange in front of a queue that instances share. All that a subscriber gets goes through it: so what was bound
/// for another filter can be removed without knowing what that was.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) name: ShortString,
    pub(crate) auto_delete: bool,
    /// The queue that whoever has the turn to change it declares.
    pub(crate) turn: ShortString,
    /// Tells the filter; the broker compares it when the exchange is declared again.
    pub(crate) fingerprint: ShortString,
}

/// A queue with all that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) queue: QueueSpec,
    pub(crate) gate: Option<Gate>,
    pub(crate) bindings: Vec<Binding>,
    /// Whether messages wait in it while nobody consumes.
    pub(crate) durable: bool,
    /// Whether it is removed when nobody consumes any more, as the broker does not do that.
    pub(crate) removed_when_unused: bool,
    pub(crate) prefetch: u16,
}

macro_rules! forward {
    ($topology:expr, $inner:ident => $call:expr) => {
        match $topology {
            Topology::Native($inner) => $call,
            Topology::TypeScript($inner) => $call,
        }
    };
}

impl Topology {
    pub(crate) fn new(config: &Config) -> Self {
        match config.is_typescript {
            true => Self::TypeScript(TypeScript::new(config)),
            false => Self::Native(Native::new(config)),
        }
    }

    /// Returns what everything else is bound to.
    pub(crate) fn exchanges(&self) -> Vec<ExchangeSpec> {
        forward!(self, inner => inner.exchanges())
    }

    /// Returns the queue of responses to an instance, which ends with its connection.
    pub(crate) fn replies(&self, instance_id: &Id) -> Plan {
        forward!(self, inner => inner.replies(instance_id))
    }

    /// Returns where a message goes.
    pub(crate) fn route(&self, message: &Message, reply: &Reply) -> Route {
        forward!(self, inner => inner.route(message, reply))
    }

    /// Returns the queues of a command: the one that instances share, and this instance's own.
    pub(crate) fn command(&self, command: &Command, granted: &Granted, instance_id: &Id) -> Vec<Plan> {
        forward!(self, inner => inner.command(command, granted, instance_id))
    }

    /// Returns the queue of a subscription.
    pub(crate) fn subscription(
        &self,
        subscription: &Subscription,
        granted: &Granted,
        instance_id: &Id,
    ) -> Plan {
        forward!(self, inner => inner.subscription(subscription, granted, instance_id))
    }

    /// Returns what whoever changes a queue declares.
    pub(crate) fn turn(&self, queue: &str) -> ShortString {
        let names = forward!(self, inner => &inner.names);
        names.turn(queue).into()
    }

    /// Returns the queue of a subscriber, or of one instance of it, as long as that is one that lives on.
    pub(crate) fn queue_of(&self, subscriber: &ServiceAddress, instance_id: Option<&Id>) -> ShortString {
        match self {
            Self::TypeScript(inner) if instance_id.is_none() => inner.queue_of(subscriber),
            Self::Native(Native { names, .. }) | Self::TypeScript(TypeScript { names, .. }) => {
                names.subscription(subscriber, instance_id).into()
            }
        }
    }

    /// Returns the queue of dead letters.
    pub(crate) fn dead_letters(&self, config: &Config) -> QueueSpec {
        let names = forward!(self, inner => &inner.names);
        let mut queue = QueueSpec::kept(names.dead_letters().into(), config.queue_type);
        queue.limit(config.max_dead_letters);
        if config.queue_type == QueueType::Quorum {
            queue.set("x-delivery-limit", AMQPValue::LongInt(NO_DELIVERY_LIMIT));
        }
        queue
    }
}

impl QueueSpec {
    /// A queue that stays when nobody consumes.
    pub(crate) fn kept(name: ShortString, queue_type: QueueType) -> Self {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut queue = Self { name, options, arguments: FieldTable::default(), is_named_anew: false };
        // A virtual host may have another default.
        let queue_type = match queue_type {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        queue.set("x-queue-type", AMQPValue::LongString(queue_type.into()));
        queue
    }

    /// A queue that the broker removes with its last consumer. It is durable, as RabbitMQ 4 has no other ones that
    /// connections share.
    pub(crate) fn while_consumed(name: ShortString) -> Self {
        let options =
            QueueDeclareOptions { durable: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut queue = Self { name, options, arguments: FieldTable::default(), is_named_anew: false };
        // No other type ends with its last consumer; a virtual host may have another default.
        queue.set("x-queue-type", AMQPValue::LongString("classic".into()));
        // After a restart of the broker, it has no last consumer that could go.
        queue.set("x-expires", AMQPValue::LongInt(EXPIRES_MS));
        queue
    }

    /// A queue of one connection, whose name begins like this.
    pub(crate) fn exclusive(name: ShortString) -> Self {
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        Self { name, options, arguments: FieldTable::default(), is_named_anew: true }
    }

    pub(crate) fn set(&mut self, argument: &str, value: AMQPValue) {
        self.arguments.insert(argument.into(), value);
    }

    /// Limits how many messages wait; what comes beyond that is refused to its sender.
    pub(crate) fn limit(&mut self, messages: u32) {
        self.set("x-max-length", AMQPValue::LongLongInt(messages.into()));
        self.set("x-overflow", AMQPValue::LongString("reject-publish".into()));
    }

    /// Has the broker itself park what is delivered far too often, as a net below the attempts that the bridge counts.
    pub(crate) fn park_in(&mut self, dead_letters: &str) {
        self.set("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
        self.set("x-dead-letter-exchange", AMQPValue::LongString("".into()));
        self.set("x-dead-letter-routing-key", AMQPValue::LongString(dead_letters.into()));
    }
}

/// How long a queue outlives a restart of the broker if nobody comes back to it.
const EXPIRES_MS: i32 = 60_000;

const DELIVERY_LIMIT: i32 = 1_000;

/// RabbitMQ 4 has a limit where none is set, and RabbitMQ 3 takes no word for none. To list dead letters is to have them
/// delivered.
const NO_DELIVERY_LIMIT: i32 = i32::MAX;
