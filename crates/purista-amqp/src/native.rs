//! The default topology. What is published goes to a topic exchange for its kind, which finds queues by a key of one word,
//! and by the whole address for those who want more than that. That a message has both keys costs the same with any number
//! of bindings; a direct exchange of RabbitMQ 3.10 would hold it against each of them.

use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{Command, Filter, Granted, Id, Message, Sharing, Subscription, routing::bounded_name};

use crate::{
    address::{Kind, Names, command_key, event_key, reply_key},
    codec::{CC, Reply, properties},
    config::{Config, QueueType},
    topology::{Binding, ExchangeSpec, Gate, Plan, QueueSpec, Route},
};

#[derive(Clone, Debug)]
pub(crate) struct Native {
    pub(crate) names: Names,
    queue_type: QueueType,
    max_queue_length: Option<u32>,
}

impl Native {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            names: Names::new(&config.connection.prefix),
            queue_type: config.queue_type,
            max_queue_length: config.max_queue_length,
        }
    }

    pub(crate) fn exchanges(&self) -> Vec<ExchangeSpec> {
        let topic = |kind| ExchangeSpec { name: self.names.exchange(kind).into(), kind: ExchangeKind::Topic };
        Kind::ALL.map(topic).into()
    }

    pub(crate) fn replies(&self, instance_id: &Id) -> Plan {
        let queue = QueueSpec::exclusive(self.names.of_instance("reply", &reply_key(instance_id)).into());
        Plan::exclusive(queue, self.binding(Kind::Responses, reply_key(instance_id)), u16::MAX)
    }

    pub(crate) fn route(&self, message: &Message, reply: &Reply) -> Route {
        let kind = Kind::of(message.message_type());
        let receiver = message.receiver.as_ref();
        let event = message.event_name.as_ref().map(|name| event_key(name));
        let (routing_key, event) = match kind {
            Kind::Commands => {
                let key = receiver.map(|to| command_key(&to.address, to.instance_id.as_ref()));
                (key.unwrap_or_default(), event)
            }
            Kind::Responses => {
                let caller = receiver.and_then(|to| to.instance_id.as_ref());
                (caller.map(reply_key).unwrap_or_default(), event)
            }
            Kind::Events => (event.unwrap_or_default(), None),
        };
        let further = [Some(self.names.address(message)), event];
        let further = further.into_iter().flatten().map(|key| AMQPValue::LongString(key.into()));
        let mut headers = FieldTable::default();
        headers.insert(CC.into(), AMQPValue::FieldArray(further.collect::<Vec<_>>().into()));
        Route {
            exchange: self.names.exchange(kind).into(),
            routing_key: routing_key.into(),
            properties: properties(message, reply, headers),
        }
    }

    pub(crate) fn command(&self, command: &Command, granted: &Granted, instance_id: &Id) -> Vec<Plan> {
        let name: ShortString = self.names.command_queue(&command.address).into();
        let key = |instance_id| self.binding(Kind::Commands, command_key(&command.address, instance_id));
        let shared = Plan {
            queue: match granted.durable {
                true => QueueSpec::kept(name, self.queue_type),
                false => QueueSpec::while_consumed(name),
            },
            gate: None,
            bindings: vec![key(None)],
            durable: granted.durable,
            removed_when_unused: false,
            prefetch: prefetch(granted),
        };
        let own = QueueSpec::exclusive(
            self.names.of_instance("instance", &command_key(&command.address, None)).into(),
        );
        vec![shared, Plan::exclusive(own, key(Some(instance_id)), prefetch(granted))]
    }

    pub(crate) fn subscription(
        &self,
        subscription: &Subscription,
        granted: &Granted,
        instance_id: &Id,
    ) -> Plan {
        let bindings = self.bindings(&subscription.filter);
        let own_instance = (granted.sharing == Sharing::Broadcast).then_some(instance_id);
        let name = self.names.subscription(&subscription.subscriber, own_instance);
        let mut queue = match (granted.durable, granted.sharing) {
            (true, _) => {
                let mut queue = QueueSpec::kept(name.as_str().into(), self.queue_type);
                if self.queue_type == QueueType::Quorum {
                    queue.park_in(&self.names.dead_letters());
                }
                queue
            }
            (false, Sharing::Broadcast) => QueueSpec::exclusive(
                self.names.of_instance("broadcast", &command_key(&subscription.subscriber, None)).into(),
            ),
            (false, _) => QueueSpec::while_consumed(name.as_str().into()),
        };
        if let Some(messages) = self.max_queue_length {
            queue.limit(messages);
        }
        let gate = Gate {
            turn: self.names.turn(&name).into(),
            name: name.into(),
            auto_delete: !granted.durable,
            fingerprint: self.names.filter(&bounded_name(&[&subscription.filter.exact()], 64)).into(),
        };
        Plan {
            gate: (!queue.options.exclusive).then_some(gate),
            queue,
            bindings,
            durable: granted.durable,
            removed_when_unused: false,
            prefetch: prefetch(granted),
        }
    }

    fn binding(&self, kind: Kind, key: String) -> Binding {
        Binding {
            exchange: self.names.exchange(kind).into(),
            routing_key: key.into(),
            arguments: FieldTable::default(),
        }
    }

    /// Who asks for an event and nothing else is found by its name; all others by the pattern of their filter.
    fn bindings(&self, filter: &Filter) -> Vec<Binding> {
        let mut rest = filter.clone();
        (rest.event_name, rest.message_type) = (None, None);
        let key = match &filter.event_name {
            Some(name) if rest == Filter::any() => event_key(name),
            _ => self.names.pattern(filter),
        };
        let kinds = match filter.message_type {
            Some(message_type) => vec![Kind::of(message_type)],
            None => Kind::ALL.into(),
        };
        kinds.into_iter().map(|kind| self.binding(kind, key.clone())).collect()
    }
}

impl Plan {
    /// Returns the plan with the name of the queue for one connection.
    pub(crate) fn for_connection(&self) -> Self {
        let mut plan = self.clone();
        if plan.queue.is_named_anew {
            plan.queue.name = format!("{}.{}", plan.queue.name, Id::random()).into();
        }
        plan
    }

    /// A queue of one connection that gets one thing.
    pub(crate) fn exclusive(queue: QueueSpec, binding: Binding, prefetch: u16) -> Self {
        Self {
            queue,
            gate: None,
            bindings: vec![binding],
            durable: false,
            removed_when_unused: false,
            prefetch,
        }
    }
}

pub(crate) fn prefetch(granted: &Granted) -> u16 {
    u16::try_from(granted.max_concurrency).unwrap_or(u16::MAX)
}
