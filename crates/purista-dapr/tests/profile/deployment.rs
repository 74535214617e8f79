use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use purista_conformance::{
    Broker, BrokerReport, CloudEventForm, Deployment, DeploymentOptions, Original, Part,
};
use purista_core::{
    Capability, EventBridge, Message, MessageType, Result, ServiceAddress,
    adapter::{DeadLetter, async_trait},
};
use purista_dapr::{DaprBridge, DaprBridgeBuilder};
use purista_integration_tests::{
    dapr::{Component, Sidecar},
    free_port,
    rabbitmq::RabbitServer,
};
use serde::{Deserialize, Serialize};

use super::{
    fleet::{Fleet, Sidecars},
    instance::{Instance, PREFETCHED},
    original::DaprOriginal,
    sockets,
    wire::{ALL_MESSAGES, Peer, event_of_tenant, is_read, take_dead_letters, unavailable},
};

/// How long a start may take where nothing is broken on purpose.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(20);

/// How bridges find the deployment, in any process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Where the durable component keeps its messages.
    rabbitmq: Option<String>,
    #[serde(skip)]
    gives: Vec<Capability>,
    max_pending_emits: Option<usize>,
    max_pending_calls: Option<usize>,
    max_payload: Option<usize>,
    keep_alive: Option<Duration>,
}

impl Place {
    pub(crate) fn new(component: &Component, gives: Vec<Capability>, options: &DeploymentOptions) -> Self {
        let rabbitmq = match component {
            Component::RabbitMq { url } => Some(url.clone()),
            _ => None,
        };
        Self {
            rabbitmq,
            gives,
            max_pending_emits: options.max_pending_emits,
            max_pending_calls: options.max_pending_calls,
            max_payload: options.max_payload,
            keep_alive: options.keep_alive,
        }
    }

    pub(crate) fn promising(mut self, gives: Vec<Capability>) -> Self {
        self.gives = gives;
        self
    }

    pub(crate) fn component(&self) -> Component {
        match &self.rabbitmq {
            Some(url) => Component::RabbitMq { url: url.clone() },
            None => Component::InMemory,
        }
    }

    fn configure(&self, builder: DaprBridgeBuilder) -> DaprBridgeBuilder {
        let kind = if self.rabbitmq.is_some() { "pubsub.rabbitmq" } else { "pubsub.in-memory" };
        let mut builder = builder
            .component_type(kind)
            .component_gives(self.gives.iter().copied())
            .all_messages_topic(ALL_MESSAGES);
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
            builder = builder.keep_alive(keep_alive);
        }
        builder
    }
}

/// Sidecars that find each other, and no others.
pub(crate) struct DaprDeployment {
    place: Place,
    fleet: Arc<Fleet>,
    broker: Option<Sidecars>,
    /// What is behind a durable component, and where in it; `None` in a process that did not start it.
    server: Option<(Arc<RabbitServer>, String)>,
    peer: Peer,
}

impl DaprDeployment {
    pub(crate) fn new(
        place: Place,
        fleet: Arc<Fleet>,
        broker: Option<Sidecars>,
        server: Option<(Arc<RabbitServer>, String)>,
    ) -> Self {
        Self { place, fleet, broker, server, peer: Peer::default() }
    }

    /// Publishes something where those who subscribe to a topic see it.
    async fn publish(&self, topic: &str, kind: &str, body: &Bytes) -> Result<()> {
        for sidecar in self.publishers()? {
            self.peer.publish(&sidecar, topic, kind, body.clone()).await?;
        }
        Ok(())
    }

    /// Returns those by which everybody is reached: one, or each for its own app.
    fn publishers(&self) -> Result<Vec<Arc<Sidecar>>> {
        let mut sidecars: Vec<_> = self.fleet.sidecars().into_iter().map(|(_, sidecar)| sidecar).collect();
        if self.place.rabbitmq.is_some() {
            sidecars.truncate(1);
        }
        if sidecars.is_empty() { Err(unavailable("there is no sidecar")) } else { Ok(sidecars) }
    }

    async fn call(&self, command: &ServiceAddress, body: Bytes) -> Result<bool> {
        let app_id = self.fleet.apps.lock().get(command).cloned();
        let Some((app_id, sidecar)) = app_id.zip(self.publishers()?.pop()) else { return Ok(false) };
        self.peer.call(&sidecar, &app_id, command, body).await.map(|()| true)
    }

    /// Returns what sidecars subscribe to.
    async fn topics(&self) -> Result<BTreeSet<String>> {
        let mut topics = BTreeSet::new();
        for (member, sidecar) in self.fleet.sidecars() {
            match self.peer.topics(&sidecar).await {
                Ok(of_one) => topics.extend(of_one),
                // It ended with its bridge while it was asked.
                Err(_) if member.sidecar().is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(topics)
    }

    /// Returns the topics of a message that somebody subscribes to.
    async fn topics_of(&self, message: &Message) -> Result<Vec<String>> {
        let named = message.event_name.as_deref();
        let mut topics = self.topics().await?;
        topics.retain(|topic| topic == ALL_MESSAGES || Some(topic.as_str()) == named);
        Ok(topics.into_iter().collect())
    }
}

#[async_trait]
impl Deployment for DaprDeployment {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        let [http_port, app_port] = [free_port().map_err(unavailable)?, free_port().map_err(unavailable)?];
        let sidecar = match &self.broker {
            Some(_) => self.fleet.proxy(http_port)?.address(),
            None => ([127, 0, 0, 1], http_port).into(),
        };
        let apps = Arc::clone(&self.fleet.apps);
        let builder = self.place.configure(DaprBridge::builder(format!("dapr://{sidecar}")));
        let builder = builder
            .app_address(([127, 0, 0, 1], app_port))
            .app_ids(move |command| apps.lock().get(command).cloned().unwrap_or_else(|| "nobody".to_owned()));
        let builder = match &self.broker {
            Some(_) => builder,
            // On a busy machine it can take a sidecar long to reach its app for the first time.
            None => builder.connect_timeout(START_PATIENCE).operation_timeout(2 * START_PATIENCE),
        };
        let builder = match &self.fleet.security {
            Some(security) => security.configure_bridge(builder),
            None => builder,
        };
        Ok(Arc::new(Instance::new(builder.build()?, &self.fleet, http_port, app_port)))
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        match Message::decode(bytes.clone()) {
            Ok(message) if message.message_type() == MessageType::Command => match &message.receiver {
                Some(receiver) => self.call(&receiver.address, bytes).await.map(drop),
                None => Ok(()),
            },
            Ok(message) => {
                for topic in self.topics_of(&message).await? {
                    self.publish(&topic, "application/json", &bytes).await?;
                }
                Ok(())
            }
            Err(_) => {
                for topic in self.topics().await? {
                    self.publish(&topic, "application/octet-stream", &bytes).await?;
                }
                for command in self.fleet.members().iter().flat_map(|member| member.commands()) {
                    self.call(&command, bytes.clone()).await?;
                }
                Ok(())
            }
        }
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        let members = self.fleet.members();
        if let Some(event) = members.iter().find_map(|member| member.event_of(to)) {
            let topic = event.as_deref().unwrap_or(ALL_MESSAGES);
            return self.publish(topic, "application/json", &bytes).await.map(|()| true);
        }
        self.call(to, bytes).await
    }

    async fn inject_with_tenant_header(&self, bytes: Bytes, tenant: &str) -> Result<bool> {
        let message = Message::decode(bytes)?;
        let event = event_of_tenant(&message, tenant);
        for topic in self.topics_of(&message).await? {
            self.publish(&topic, "application/cloudevents+json", &event).await?;
        }
        Ok(true)
    }

    async fn deliver_cloud_event(
        &self,
        to: &ServiceAddress,
        form: CloudEventForm,
        attributes: &[(&str, &str)],
        bytes: Bytes,
    ) -> Result<bool> {
        let members = self.fleet.members();
        let mut subscribers = members.iter().filter_map(|member| Some((member, member.event_of(to)?)));
        let (member, event) = subscribers.next().ok_or_else(|| unavailable("there is no subscriber"))?;
        let topic = event.as_deref().unwrap_or(ALL_MESSAGES);
        let url = format!("{}/purista/subscription/{topic}", member.app_url());
        self.peer.deliver(&url, form, attributes, &bytes).await
    }

    async fn original(&self, part: &Part) -> Result<Box<dyn Original>> {
        Ok(Box::new(DaprOriginal::start(&self.fleet, part).await?))
    }

    fn shares_subscriptions_with_original(&self) -> bool {
        self.place.rabbitmq.is_some()
    }

    fn hands_on_to_original(&self) -> bool {
        false
    }

    fn prefetched(&self) -> usize {
        PREFETCHED.into()
    }

    fn pooled_connections(&self) -> Result<usize> {
        let (apps, sidecars) = (self.fleet.app_ports(), self.fleet.proxy_ports());
        sockets::connected(|from, to| apps.contains(&from) || sidecars.contains(&to))
    }

    fn events_cross_bridges(&self) -> bool {
        self.place.rabbitmq.is_some()
    }

    fn answers_come_late(&self) -> bool {
        false
    }

    fn can_forbid_commands(&self) -> bool {
        false
    }

    fn refuses_when_full(&self) -> bool {
        false
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        match &self.place.rabbitmq {
            Some(url) => take_dead_letters(url).await,
            None => Ok(Vec::new()),
        }
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        let connections = self.fleet.sidecars().len();
        let Some((server, vhost)) = &self.server else {
            return Ok(BrokerReport::new(connections, self.topics().await?.len(), 0));
        };
        let mut queues = server.management().queues(vhost).await.map_err(unavailable)?;
        queues.retain(|queue| is_read(&queue.name));
        let waiting = queues.iter().map(|queue| queue.messages).sum();
        Ok(BrokerReport::new(connections, queues.len(), waiting))
    }

    fn broker(&self) -> Option<&dyn Broker> {
        self.broker.as_ref().map(|broker| broker as &dyn Broker)
    }

    fn location(&self) -> Option<String> {
        serde_json::to_string(&self.place).ok()
    }
}
