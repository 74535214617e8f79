use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties, Channel, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions},
    types::AMQPValue,
};
use purista_amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType};
use purista_conformance::{
    Broker, BrokerReport, Deployment, DeploymentOptions, Original, OriginalNames as Chosen, Part,
};
use purista_core::{
    Error, ErrorKind, EventBridge, Id, Message, Result, ServiceAddress,
    adapter::{DeadLetter, async_trait},
};
use purista_integration_tests::{
    OwnBroker,
    rabbitmq::{Management, Queue, RabbitServer},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::OnceCell,
    time::{interval, timeout},
};

use super::{
    original::{AmqpOriginal, OriginalNames},
    secured::Secured,
    wire::{Route, dead_letters, native, queues_of, reply_queue_of, typescript, unavailable},
};

/// A name that the original lets its users choose.
const CHOSEN_EXCHANGE: &str = "acme messages";

/// How bridges find the deployment, in any process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) vhost: String,
    pub(crate) prefix: String,
    is_typescript: bool,
    /// Whether bridges, and peers, have an exchange with another name than its queues.
    has_chosen_names: [bool; 2],
    max_pending_emits: Option<usize>,
    max_pending_calls: Option<usize>,
    queue_capacity: Option<usize>,
    dead_letter_capacity: Option<usize>,
    max_payload: Option<usize>,
    keep_alive: Option<Duration>,
}

impl Place {
    /// Chooses a prefix; where the server is comes later.
    pub(crate) fn new(is_typescript: bool, options: &DeploymentOptions) -> Self {
        Self {
            url: String::new(),
            vhost: String::new(),
            prefix: format!("t{}", Id::random()),
            is_typescript,
            has_chosen_names: match options.original_names {
                Chosen::Chosen => [true, true],
                Chosen::ChosenByPeers => [false, true],
                _ => [false, false],
            },
            max_pending_emits: options.max_pending_emits,
            max_pending_calls: options.max_pending_calls,
            queue_capacity: options.queue_capacity,
            dead_letter_capacity: options.dead_letter_capacity,
            max_payload: options.max_payload,
            keep_alive: options.keep_alive,
        }
    }

    pub(crate) const fn is_typescript(&self) -> bool {
        self.is_typescript
    }

    fn builder(&self, tls: bool) -> AmqpBridgeBuilder {
        let url = if tls { self.url.replacen("amqp://", "amqps://", 1) } else { self.url.clone() };
        let mut builder = AmqpBridge::builder(url).prefix(&self.prefix);
        if self.is_typescript {
            builder = builder.typescript_topology();
        }
        if self.has_chosen_names[0] {
            builder = builder.exchange_name(CHOSEN_EXCHANGE);
        }
        // Quorum queues keep limits roughly only.
        if let Some(messages) = self.queue_capacity {
            builder = builder.max_queue_length(u32::try_from(messages).unwrap_or(u32::MAX));
            builder = builder.queue_type(QueueType::Classic);
        }
        if let Some(letters) = self.dead_letter_capacity {
            builder = builder.max_dead_letters(u32::try_from(letters).unwrap_or(u32::MAX));
            builder = builder.queue_type(QueueType::Classic);
        }
        if let Some(emits) = self.max_pending_emits {
            builder = builder.max_pending_emits(emits);
        }
        if let Some(calls) = self.max_pending_calls {
            builder = builder.max_pending_calls(calls);
        }
        if let Some(bytes) = self.max_payload {
            builder = builder.max_payload(bytes);
        }
        if let Some(keep_alive) = self.keep_alive {
            builder = builder.keep_alive(keep_alive.max(Duration::from_secs(1)));
        }
        builder
    }
}

/// A virtual host of its own on a server.
pub(crate) struct AmqpDeployment {
    place: Place,
    security: Option<Secured>,
    broker: Option<OwnBroker>,
    /// `None` in a process that did not start it.
    server: Option<Arc<RabbitServer>>,
    client: OnceCell<(lapin::Connection, Channel)>,
}

impl AmqpDeployment {
    pub(crate) fn new(place: Place, broker: Option<OwnBroker>, server: Option<Arc<RabbitServer>>) -> Self {
        Self { place, security: None, broker, server, client: OnceCell::new() }
    }

    /// Has bridges show and expect what security asks for.
    pub(crate) fn secured(mut self, security: Option<Secured>) -> Self {
        self.security = security;
        self
    }

    fn server(&self) -> Result<&RabbitServer> {
        self.server.as_deref().ok_or_else(|| unavailable("another process has the server"))
    }

    fn management(&self) -> Result<&Management> {
        self.server().map(RabbitServer::management)
    }

    async fn channel(&self) -> Result<&Channel> {
        let url = self.server()?.url_of(&self.place.vhost);
        let client = self.client.get_or_try_init(|| async {
            let connection = lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((connection, channel))
        });
        client.await.map(|(_, channel)| channel).map_err(|cause: lapin::Error| unavailable(cause))
    }

    async fn send(&self, route: Route, payload: Bytes) -> Result<()> {
        let Route { exchange, routing_key, properties } = route;
        let (channel, options) = (self.channel().await?, BasicPublishOptions::default());
        let sent = channel.basic_publish(
            exchange.as_str().into(),
            routing_key.as_str().into(),
            options,
            &payload,
            properties,
        );
        sent.await.map_err(unavailable)?.await.map(drop).map_err(unavailable)
    }

    async fn send_to_queue(&self, queue: &Queue, payload: Bytes) -> Result<()> {
        let routing_key = queue.name.clone();
        let route = Route { exchange: String::new(), routing_key, properties: BasicProperties::default() };
        self.send(route, payload).await
    }

    /// Returns the queues that bridges read: not dead letters, and not turns, which may end after their registration.
    async fn queues(&self) -> Result<Vec<Queue>> {
        let mut queues = self.management()?.queues(&self.place.vhost).await.map_err(unavailable)?;
        let prefix = &self.place.prefix;
        let (kept, turns) = (dead_letters(prefix), format!("{prefix}.turn."));
        queues.retain(|queue| {
            queue.name.starts_with(prefix) && queue.name != kept && !queue.name.starts_with(&turns)
        });
        Ok(queues)
    }

    async fn route(&self, message: &Message) -> Result<Route> {
        if !self.place.is_typescript {
            return Ok(native(&self.place.prefix, message));
        }
        let receiver = message.receiver.as_ref().and_then(|receiver| receiver.instance_id.as_ref());
        let reply_queue = match receiver.filter(|_| message.message_type().is_response()) {
            Some(caller) => {
                let name = reply_queue_of(&self.place.prefix, caller);
                let mut queues = self.queues().await?.into_iter();
                queues.find(|queue| queue.name.starts_with(&name)).map(|queue| queue.name)
            }
            None => None,
        };
        Ok(typescript(&self.place.prefix, message, reply_queue))
    }
}

#[async_trait]
impl Deployment for AmqpDeployment {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        let builder = self.place.builder(self.security.as_ref().is_some_and(Secured::wants_tls));
        let builder = match &self.security {
            Some(security) => security.configure_bridge(builder),
            None => builder,
        };
        Ok(Arc::new(builder.build()?))
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        if let Ok(message) = Message::decode(bytes.clone()) {
            return self.send(self.route(&message).await?, bytes).await;
        }
        for queue in self.queues().await? {
            self.send_to_queue(&queue, bytes.clone()).await?;
        }
        Ok(())
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        let Place { prefix, is_typescript, .. } = &self.place;
        let names = queues_of(prefix, *is_typescript, to);
        let queues = self.queues().await?;
        let is_it = |queue: &&Queue| {
            names
                .iter()
                .any(|name| queue.name == *name || (name.ends_with('.') && queue.name.starts_with(name)))
        };
        match queues.iter().find(is_it) {
            Some(queue) => self.send_to_queue(queue, bytes).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn inject_with_tenant_header(&self, bytes: Bytes, tenant: &str) -> Result<bool> {
        if !self.place.is_typescript {
            return Ok(false);
        }
        let mut route = self.route(&Message::decode(bytes.clone())?).await?;
        let mut headers = route.properties.headers().clone().unwrap_or_default();
        headers.insert("tenantId".into(), AMQPValue::LongString(tenant.into()));
        route.properties = route.properties.with_headers(headers);
        self.send(route, bytes).await.map(|()| true)
    }

    fn can_forbid_events_alone(&self) -> bool {
        // One exchange takes everything there.
        !self.place.is_typescript
    }

    fn can_forbid_one_event(&self) -> bool {
        !self.place.is_typescript
    }

    fn can_limit_messages(&self) -> bool {
        true
    }

    async fn original(&self, part: &Part) -> Result<Box<dyn Original>> {
        let (url, prefix) = (self.server()?.url_of(&self.place.vhost), self.place.prefix.clone());
        let exchange = match self.place.has_chosen_names[1] {
            true => CHOSEN_EXCHANGE.to_owned(),
            false => prefix.clone(),
        };
        Ok(Box::new(AmqpOriginal::start(&url, OriginalNames { exchange, prefix }, part).await?))
    }

    fn shares_subscriptions_with_original(&self) -> bool {
        true
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let name = dead_letters(&self.place.prefix);
        let all = self.management()?.queues(&self.place.vhost).await.map_err(unavailable)?;
        if !all.iter().any(|queue| queue.name == name) {
            return Ok(Vec::new());
        }
        let (channel, mut letters) = (self.channel().await?, Vec::new());
        let get = async || {
            let options = BasicGetOptions { no_ack: true };
            channel.basic_get(name.as_str().into(), options).await.map_err(unavailable)
        };
        while let Some(kept) = get().await? {
            let headers = kept.properties.headers().clone().unwrap_or_default();
            let metadata = match headers.inner().get("purista-dead-letter") {
                Some(AMQPValue::LongString(text)) => text.to_string(),
                _ => String::new(),
            };
            letters.push(DeadLetter::from_metadata(&metadata, Bytes::from(kept.delivery.data))?);
        }
        Ok(letters)
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        let (management, vhost) = (self.management()?, &self.place.vhost);
        let queues = self.queues().await?;
        let exchanges = management.exchanges(vhost).await.map_err(unavailable)?;
        // What takes messages is there for all bridges, whether they are there or not.
        let is_route = |name: &str| {
            name.strip_prefix(&self.place.prefix)
                .and_then(|name| name.strip_prefix('.'))
                .is_some_and(|name| !["commands", "responses", "events", "instances"].contains(&name))
        };
        let routes = queues.len() + exchanges.iter().filter(|exchange| is_route(&exchange.name)).count();
        // Each bridge has a queue for its answers, which ends with its connection.
        let replies = format!("{}.reply.", self.place.prefix);
        let connected = queues.iter().filter(|queue| queue.name.starts_with(&replies)).count();
        Ok(BrokerReport::new(connected, routes, queues.iter().map(|queue| queue.messages_ready).sum()))
    }

    fn broker(&self) -> Option<&dyn Broker> {
        self.broker.as_ref().map(|broker| broker as &dyn Broker)
    }

    fn location(&self) -> Option<String> {
        serde_json::to_string(&self.place).ok()
    }
}

/// Deletes the queue of a subscriber, as an operator can, with the exchange in front of it. RabbitMQ 3.10 closes the
/// connections of those who publish to a quorum queue in the moment when it is deleted, so it is empty before.
pub(crate) async fn cancel_consumer(
    server: Arc<RabbitServer>,
    place: Place,
    subscriber: ServiceAddress,
) -> Result<()> {
    let names = queues_of(&place.prefix, place.is_typescript, &subscriber);
    let management = server.management();
    let find = async || {
        let queues = management.queues(&place.vhost).await.map_err(unavailable)?;
        let queue = queues.into_iter().find(|queue| names.contains(&queue.name));
        queue.ok_or_else(|| unavailable("there is no such queue"))
    };
    let name = find().await?.name;
    let url = server.url_of(&place.vhost);
    let unbind = async {
        let client = lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = client.create_channel().await?;
        channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await?;
        client.close(200, "done".into()).await
    };
    unbind.await.map_err(unavailable)?;
    let is_empty = async {
        let mut poll = interval(Duration::from_millis(20));
        while find().await?.messages > 0 {
            // Nothing tells of it but the management interface, and only to those who ask.
            poll.tick().await;
        }
        Ok(())
    };
    timeout(Duration::from_secs(10), is_empty).await.map_err(unavailable)??;
    management.delete_queue(&place.vhost, &name).await.map_err(unavailable)
}

/// Reads a location.
pub(crate) fn at(location: &str) -> Result<AmqpDeployment> {
    let place = serde_json::from_str(location)
        .map_err(|cause| Error::new(ErrorKind::InvalidConfig, "reach").with_source(cause))?;
    Ok(AmqpDeployment::new(place, None, None))
}
