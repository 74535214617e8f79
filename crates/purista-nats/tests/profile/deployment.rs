use std::{sync::Arc, time::Duration};

use async_nats::{Client, jetstream};
use bytes::Bytes;
use purista_conformance::{
    Broker, BrokerReport, Deployment, DeploymentOptions, Original, OriginalNames as Chosen, Part,
};
use purista_core::{
    Error, ErrorKind, EventBridge, Id, Message, Result, ServiceAddress,
    adapter::{DeadLetter, async_trait},
};
use purista_integration_tests::{
    OwnBroker,
    nats::{Connection, NatsServer, Subscription},
};
use purista_nats::{JetStreamConfig, NatsBridge, NatsBridgeBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{
    original::{NatsOriginal, OriginalNames},
    secured::Secured,
    wire::{any_of, command_pattern, consumer_name, queue_group, stream, subject, unavailable},
};

/// How bridges find the deployment, in any process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) prefix: String,
    has_jetstream: bool,
    /// What stands for an absent part in the subjects of bridges, and in those of the original.
    markers: [Option<String>; 2],
    max_pending_emits: Option<usize>,
    pub(crate) max_pending_calls: Option<usize>,
    pub(crate) queue_capacity: Option<usize>,
    pub(crate) dead_letter_capacity: Option<usize>,
    pub(crate) max_payload: Option<usize>,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) lease: Option<Duration>,
}

impl Place {
    /// Chooses a prefix; where the server is comes later.
    pub(crate) fn new(has_jetstream: bool, options: &DeploymentOptions) -> Self {
        Self {
            url: String::new(),
            prefix: format!("t{}", Id::random()),
            has_jetstream,
            markers: match options.original_names {
                Chosen::Chosen => [Some("__absent__".to_owned()), Some("__absent__".to_owned())],
                Chosen::ChosenByPeers => [None, Some("__absent__".to_owned())],
                _ => [None, None],
            },
            max_pending_emits: options.max_pending_emits,
            max_pending_calls: options.max_pending_calls,
            queue_capacity: options.queue_capacity,
            dead_letter_capacity: options.dead_letter_capacity,
            max_payload: options.max_payload,
            keep_alive: options.keep_alive,
            lease: options.lease,
        }
    }

    /// Inboxes show which connections belong to this deployment.
    fn inbox_prefix(&self) -> String {
        format!("_INBOX_{}", self.prefix)
    }

    fn builder(&self) -> NatsBridgeBuilder {
        let mut jetstream = JetStreamConfig::default().with_max_bytes(64 << 20);
        if let Some(messages) = self.queue_capacity {
            jetstream = jetstream.with_max_messages_per_subject(messages as u64);
        }
        if let Some(letters) = self.dead_letter_capacity {
            jetstream = jetstream.with_max_dead_letters(letters as u64);
        }
        if let Some(lease) = self.lease {
            jetstream = jetstream.with_ack_wait(lease);
        }
        let mut builder = NatsBridge::builder(&self.url)
            .prefix(&self.prefix)
            .inbox_prefix(self.inbox_prefix())
            .jetstream(jetstream);
        if !self.has_jetstream {
            builder = builder.without_jetstream();
        }
        if let Some(marker) = &self.markers[0] {
            builder = builder.empty_part(marker);
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
            // The third ping without an answer is one too many.
            builder = builder.keep_alive(keep_alive / 2);
        }
        builder
    }
}

/// A prefix of its own on a server.
pub(crate) struct NatsDeployment {
    place: Place,
    security: Option<Secured>,
    broker: Option<OwnBroker>,
    /// `None` in a process that did not start it.
    server: Option<Arc<NatsServer>>,
    client: OnceCell<Client>,
}

impl NatsDeployment {
    pub(crate) fn new(place: Place, broker: Option<OwnBroker>, server: Option<Arc<NatsServer>>) -> Self {
        Self { place, security: None, broker, server, client: OnceCell::new() }
    }

    /// Has bridges show and expect what security asks for.
    pub(crate) fn secured(mut self, security: Option<Secured>) -> Self {
        self.security = security;
        self
    }

    fn server(&self) -> Result<&NatsServer> {
        self.server.as_deref().ok_or_else(|| unavailable("another process has the server"))
    }

    async fn client(&self) -> Result<&Client> {
        let url = self.server()?.url();
        self.client.get_or_try_init(|| async { async_nats::connect(url).await.map_err(unavailable) }).await
    }

    async fn send(&self, subject: String, payload: Bytes) -> Result<()> {
        let client = self.client().await?;
        client.publish(subject, payload).await.map_err(unavailable)?;
        client.flush().await.map_err(unavailable)
    }

    /// Returns the connections of this deployment's bridges.
    async fn connections(&self) -> Result<Vec<Connection>> {
        let mut connections = self.server()?.monitor().connections().await.map_err(unavailable)?;
        let inbox = self.place.inbox_prefix();
        let is_ours = |connection: &Connection| {
            connection.subscriptions.iter().any(|subscription| subscription.subject.starts_with(&inbox))
        };
        connections.retain(is_ours);
        Ok(connections)
    }

    /// Returns what bridges listen to beside their inboxes.
    async fn routes(&self) -> Result<Vec<Subscription>> {
        let prefix = format!("{}.", self.place.prefix);
        let connections = self.connections().await?;
        let subscriptions = connections.into_iter().flat_map(|connection| connection.subscriptions);
        Ok(subscriptions.filter(|subscription| subscription.subject.starts_with(&prefix)).collect())
    }

    /// Returns the streams that bridges consume from, with what consumers of them listen to.
    async fn streams(&self) -> Result<Vec<(jetstream::stream::Info, Vec<jetstream::consumer::Info>)>> {
        let context = jetstream::new(self.client().await?.clone());
        let mut streams = Vec::new();
        for what in ["events", "commands"] {
            match context.get_stream(stream(&self.place.prefix, what)).await {
                Ok(stream) => {
                    use futures_util::TryStreamExt as _;
                    let consumers = stream.consumers().try_collect().await.map_err(unavailable)?;
                    streams.push((stream.cached_info().clone(), consumers));
                }
                Err(_absent) => {}
            }
        }
        Ok(streams)
    }

    /// Returns where the caller of a command waits for this answer.
    async fn inbox_of_caller(&self, response: &Message) -> Result<Option<String>> {
        let receiver = response.receiver.as_ref().and_then(|receiver| receiver.instance_id.as_ref());
        let (Some(caller), Some(correlation_id)) = (receiver, &response.correlation_id) else {
            return Ok(None);
        };
        let connections = self.connections().await?;
        let of_caller = connections.iter().find(|connection| connection.name == caller.to_string());
        let inbox = of_caller.and_then(|connection| {
            connection.subscriptions.iter().find_map(|subscription| {
                let inbox = subscription.subject.strip_suffix('*')?;
                inbox.starts_with(&self.place.inbox_prefix()).then(|| format!("{inbox}{correlation_id}"))
            })
        });
        Ok(inbox)
    }

    /// Returns a subject for each inbox and each route: whatever comes there, some bridge reads it.
    async fn everywhere(&self) -> Result<Vec<String>> {
        let mut subjects = Vec::new();
        for connection in self.connections().await? {
            for subscription in connection.subscriptions {
                match subscription.subject.strip_suffix('*') {
                    Some(inbox) if inbox.starts_with(&self.place.inbox_prefix()) => {
                        subjects.push(format!("{inbox}{}", "0".repeat(32)));
                    }
                    _ if subscription.subject.split('.').count() == 13 => {
                        subjects.push(any_of(&subscription.subject));
                    }
                    _ => {}
                }
            }
        }
        for (_, consumers) in self.streams().await? {
            subjects.extend(consumers.iter().map(|consumer| any_of(&consumer.config.filter_subject)));
        }
        Ok(subjects)
    }
}

#[async_trait]
impl Deployment for NatsDeployment {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        let builder = self.place.builder();
        let builder = match &self.security {
            Some(security) => security.configure_bridge(builder),
            None => builder,
        };
        Ok(Arc::new(builder.build()?))
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        let Ok(message) = Message::decode(bytes.clone()) else {
            for subject in self.everywhere().await? {
                self.send(subject, bytes.clone()).await?;
            }
            return Ok(());
        };
        if message.message_type().is_response()
            && let Some(inbox) = self.inbox_of_caller(&message).await?
        {
            self.send(inbox, bytes.clone()).await?;
        }
        self.send(subject(&self.place.prefix, &message), bytes).await
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        let (command, name) = (command_pattern(&self.place.prefix, to), consumer_name(to));
        let routes = self.routes().await?;
        let groups = [name.clone(), queue_group(&self.place.prefix, to)];
        let is_it = |route: &&Subscription| {
            route.subject == command || route.queue.as_ref().is_some_and(|group| groups.contains(group))
        };
        let core = routes.iter().filter(|route| route.subject.split('.').count() == 13).find(is_it);
        let mut patterns: Vec<_> = core.map(|route| route.subject.clone()).into_iter().collect();
        for (_, consumers) in self.streams().await? {
            let consumers = consumers.into_iter().filter(|consumer| consumer.name == name);
            patterns.extend(consumers.map(|consumer| consumer.config.filter_subject));
        }
        // A subscription listens in more than one place; any of them will do.
        match patterns.pop() {
            Some(pattern) => self.send(any_of(&pattern), bytes).await.map(|()| true),
            None => Ok(false),
        }
    }

    fn can_forbid_one_event(&self) -> bool {
        true
    }

    fn can_limit_messages(&self) -> bool {
        true
    }

    async fn original(&self, part: &Part) -> Result<Box<dyn Original>> {
        let marker = self.place.markers[1].clone().unwrap_or_else(|| "__empty__".to_owned());
        let names = OriginalNames { prefix: self.place.prefix.clone(), marker };
        Ok(Box::new(NatsOriginal::start(self.server()?.url(), names, part).await?))
    }

    fn shares_subscriptions_with_original(&self) -> bool {
        !self.place.has_jetstream
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let context = jetstream::new(self.client().await?.clone());
        let Ok(stream) = context.get_stream(stream(&self.place.prefix, "dead-letters")).await else {
            return Ok(Vec::new());
        };
        let state = &stream.cached_info().state;
        let mut letters = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(kept) = stream.get_raw_message(sequence).await else { continue };
            let metadata = kept.headers.get("Purista-Dead-Letter").map(|value| value.as_str().to_owned());
            letters.push(DeadLetter::from_metadata(&metadata.unwrap_or_default(), kept.payload)?);
            stream.delete_message(sequence).await.map_err(unavailable)?;
        }
        Ok(letters)
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        let (mut routes, mut queued) = (self.routes().await?.len(), 0);
        for (info, consumers) in self.streams().await? {
            routes += consumers.len();
            queued += usize::try_from(info.state.messages).unwrap_or(usize::MAX);
        }
        Ok(BrokerReport::new(self.connections().await?.len(), routes, queued))
    }

    fn broker(&self) -> Option<&dyn Broker> {
        self.broker.as_ref().map(|broker| broker as &dyn Broker)
    }

    fn location(&self) -> Option<String> {
        serde_json::to_string(&self.place).ok()
    }
}

/// Deletes the consumer of a subscriber, as an operator can.
pub(crate) async fn cancel_consumer(url: String, prefix: String, subscriber: ServiceAddress) -> Result<()> {
    let context = jetstream::new(async_nats::connect(url).await.map_err(unavailable)?);
    let events = context.get_stream(stream(&prefix, "events")).await.map_err(unavailable)?;
    events.delete_consumer(&consumer_name(&subscriber)).await.map(drop).map_err(unavailable)
}

/// Reads a location.
pub(crate) fn at(location: &str) -> Result<NatsDeployment> {
    let place = serde_json::from_str(location)
        .map_err(|cause| Error::new(ErrorKind::InvalidConfig, "reach").with_source(cause))?;
    Ok(NatsDeployment::new(place, None, None))
}
