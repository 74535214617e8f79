use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use purista_conformance::{
    Broker, BrokerReport, Deployment, DeploymentOptions, Original, OriginalNames as Chosen, Part,
};
use purista_core::{
    EventBridge, Id, Message, Result, ServiceAddress,
    adapter::{DeadLetter, async_trait},
};
use purista_integration_tests::{
    OwnBroker,
    mosquitto::{MosquittoServer, Subscription},
};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};
use rumqttc::Publish;
use tokio::sync::OnceCell;

use super::{
    instances::Instances,
    original::{MqttOriginal, OriginalNames},
    peer::{Peer, end_session},
    secured::Secured,
    wire::{any_of, bridge_client, commands_of, dead_letters, subscriber_client, topic, unavailable},
};

/// Names that the original lets its users choose.
const CHOSEN_SHARE: &str = "acmeShare";
const CHOSEN_MARKER: &str = "__absent__";

/// How bridges find the deployment.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) prefix: String,
    is_tuned: bool,
    /// Whether bridges, and peers, have other names than the original's defaults.
    has_chosen_names: [bool; 2],
    max_pending_emits: Option<usize>,
    max_pending_calls: Option<usize>,
    max_payload: Option<usize>,
    keep_alive: Option<Duration>,
    /// Bridges take more then, so that it is the broker that refuses.
    is_limited: bool,
    has_smallest_windows: bool,
}

impl Place {
    /// Chooses a prefix; where the server is comes later.
    pub(crate) fn new(is_tuned: bool, options: &DeploymentOptions) -> Self {
        Self {
            url: String::new(),
            prefix: format!("t{}", Id::random()),
            is_tuned,
            has_chosen_names: match options.original_names {
                Chosen::Chosen => [true, true],
                Chosen::ChosenByPeers => [false, true],
                _ => [false, false],
            },
            max_pending_emits: options.max_pending_emits,
            max_pending_calls: options.max_pending_calls,
            max_payload: options.max_payload,
            keep_alive: options.keep_alive,
            is_limited: options.max_broker_message.is_some(),
            has_smallest_windows: options.smallest_windows,
        }
    }

    fn builder(&self, tls: bool) -> MqttBridgeBuilder {
        let url = if tls { self.url.replacen("mqtt://", "mqtts://", 1) } else { self.url.clone() };
        let mut builder = MqttBridge::builder(url).prefix(&self.prefix);
        if self.is_tuned {
            builder = builder.persistent_sessions(Duration::from_secs(3_600));
        }
        if self.has_chosen_names[0] {
            builder = builder.share_prefix("$share").share_name(CHOSEN_SHARE).empty_part(CHOSEN_MARKER);
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
        if self.is_limited {
            builder = builder.max_payload(16 << 20);
        }
        if self.has_smallest_windows {
            builder = builder.receive_maximum(1);
        }
        if let Some(keep_alive) = self.keep_alive {
            builder = builder.keep_alive(keep_alive);
        }
        builder
    }
}

/// A server of its own.
pub(crate) struct MqttDeployment {
    place: Place,
    security: Option<Secured>,
    broker: Option<OwnBroker>,
    server: Arc<MosquittoServer>,
    instances: Arc<Instances>,
    peer: OnceCell<Peer>,
}

impl MqttDeployment {
    pub(crate) fn new(place: Place, server: Arc<MosquittoServer>) -> Self {
        let instances = Arc::default();
        Self { place, security: None, broker: None, server, instances, peer: OnceCell::new() }
    }

    /// Has trials break the broker.
    pub(crate) fn broken_by(mut self, broker: OwnBroker) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Has bridges show and expect what security asks for.
    pub(crate) fn secured(mut self, security: Option<Secured>) -> Self {
        self.security = security;
        self
    }

    pub(crate) fn instances(&self) -> Arc<Instances> {
        Arc::clone(&self.instances)
    }

    async fn send(&self, topic: String, payload: Bytes, user_properties: &[(&str, &str)]) -> Result<()> {
        let peer = self.peer.get_or_init(|| async { Peer::connect(self.server.address()) }).await;
        let properties =
            user_properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        peer.publish(topic, payload, properties.collect()).await
    }

    /// Returns the client ids of the bridges; those of their subscribers are others.
    fn bridge_clients(&self) -> Vec<String> {
        self.instances.ids().iter().map(|id| bridge_client(&self.place.prefix, id)).collect()
    }

    /// Returns what bridges listen to.
    fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let mut subscriptions = self.server.subscriptions().map_err(unavailable)?;
        subscriptions.retain(|subscription| subscription.client.starts_with(&self.place.prefix));
        // By which bridges look whether they may still read what they listen to.
        subscriptions.retain(|Subscription { client, filter, .. }| {
            !filter.ends_with(&format!("/+/{client}")) || filter.starts_with("$share/")
        });
        Ok(subscriptions)
    }
}

#[async_trait]
impl Deployment for MqttDeployment {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        let bridge = self.instances.add(|id| {
            let builder = self.place.builder(self.security.as_ref().is_some_and(Secured::wants_tls));
            let builder = match &self.security {
                Some(security) => security.configure_bridge(builder),
                None => builder,
            };
            builder.instance_id(id).build()
        });
        Ok(bridge?)
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        if let Ok(message) = Message::decode(bytes.clone()) {
            return self.send(topic(&self.place.prefix, &message), bytes, &[]).await;
        }
        let filters = self.subscriptions()?.into_iter().map(|subscription| subscription.filter);
        for topic in filters.map(|filter| any_of(&filter)).collect::<BTreeSet<_>>() {
            self.send(topic, bytes.clone(), &[]).await?;
        }
        Ok(())
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        let prefix = &self.place.prefix;
        let commands = commands_of(prefix, to);
        let ids = self.instances.ids();
        let clients: Vec<_> = ids.iter().map(|id| subscriber_client(prefix, to, id)).collect();
        let is_it = |known: &Subscription| known.filter == commands || clients.contains(&known.client);
        let mut topics = self.subscriptions()?.into_iter().filter(is_it).map(|known| any_of(&known.filter));
        // Instances have topics among themselves too, which are shorter.
        match topics.find(|topic| topic.split('/').count() == 13) {
            Some(topic) => self.send(topic, bytes, &[]).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn original(&self, part: &Part) -> Result<Box<dyn Original>> {
        let [share, marker] = match self.place.has_chosen_names[1] {
            true => [CHOSEN_SHARE, CHOSEN_MARKER],
            false => ["sharedpurista", "__none__"],
        };
        let prefix = self.place.prefix.clone();
        let names = OriginalNames { prefix, share: share.to_owned(), marker: marker.to_owned() };
        Ok(Box::new(MqttOriginal::start(self.server.address(), names, part).await?))
    }

    async fn inject_with_tenant_header(&self, bytes: Bytes, tenant: &str) -> Result<bool> {
        let topic = topic(&self.place.prefix, &Message::decode(bytes.clone())?);
        self.send(topic, bytes, &[("tenantId", tenant)]).await.map(|()| true)
    }

    fn can_forbid_one_event(&self) -> bool {
        true
    }

    fn can_limit_messages(&self) -> bool {
        true
    }

    fn refuses_when_full(&self) -> bool {
        false
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let peer = Peer::connect(self.server.address());
        let retained = peer.take_retained(dead_letters(&self.place.prefix)).await?;
        let letter = |Publish { payload, properties, .. }| {
            let properties = properties.unwrap_or_default().user_properties;
            let metadata = properties.into_iter().find(|(name, _)| name == "purista-dead-letter");
            DeadLetter::from_metadata(&metadata.unwrap_or_default().1, payload)
        };
        let mut letters = retained.into_iter().map(letter).collect::<Result<Vec<_>>>()?;
        letters.sort_by_key(|letter| letter.last_attempt_at);
        Ok(letters)
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        let (bridges, mut clients) = (self.bridge_clients(), self.server.clients().map_err(unavailable)?);
        clients.retain(|client| bridges.contains(client));
        let queued = self.server.queued().await.map_err(unavailable)?;
        Ok(BrokerReport::new(clients.len(), self.routes().await?, queued))
    }

    async fn routes(&self) -> Result<usize> {
        // A bridge shares everything but its answers, for which it listens as long as it is connected.
        let bridges = self.bridge_clients();
        let is_for_answers = |subscription: &Subscription| {
            bridges.contains(&subscription.client) && !subscription.filter.starts_with("$share/")
        };
        Ok(self.subscriptions()?.iter().filter(|known| !is_for_answers(known)).count())
    }

    fn broker(&self) -> Option<&dyn Broker> {
        self.broker.as_ref().map(|broker| broker as &dyn Broker)
    }

    fn location(&self) -> Option<String> {
        None
    }
}

/// Ends the session of a subscriber, as an operator can.
pub(crate) async fn cancel_consumer(
    server: Arc<MosquittoServer>,
    prefix: String,
    instances: Arc<Instances>,
    subscriber: ServiceAddress,
) -> Result<()> {
    let connected = server.clients().map_err(unavailable)?;
    let ids = instances.ids();
    let mut clients = ids.iter().map(|id| subscriber_client(&prefix, &subscriber, id));
    let client = clients.find(|client| connected.contains(client));
    end_session(server.address(), client.ok_or_else(|| unavailable("there is no such subscriber"))?).await
}
