use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use purista_core::{
    Capability, Error, ErrorKind, Result,
    adapter::{Attempts, ServerUrl},
};
use rumqttc::{
    AsyncClient, ConnAck, ConnAckProperties, DisconnectProperties, DisconnectReasonCode, Event, EventLoop,
    Packet, PubAckReason, Publish, PublishOptions, PublishResult, QoS, RetainForwardRule,
    SubscribeFilterInput, SubscribeProperties, SubscribeReasonCode,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    config::Config,
    error::{error, from_connect, lost, not_subscribed, refused},
    options::{SessionSpec, options, seconds},
};

/// How many requests wait for their turn on the connection.
const REQUEST_CAPACITY: usize = 1_024;

/// What stands in a packet beside topic and payload at the most.
const PROPERTIES: usize = 512;

/// How long the broker may take to confirm what is under way when a connection ends.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One connection to the broker, and what it keeps for it. It never comes back: who needs one opens another.
pub(crate) struct Session {
    client: Arc<AsyncClient>,
    /// Whether the broker still had it.
    pub(crate) is_resumed: bool,
    pub(crate) limits: Limits,
    lost: CancellationToken,
    reason: Arc<OnceLock<String>>,
    _end: DropGuard,
}

/// What the broker said of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_packet: usize,
    pub(crate) retains: bool,
}

/// A message that came, with the connection that it has to be acknowledged on.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) publish: Publish,
    pub(crate) client: Arc<AsyncClient>,
}

/// Takes what comes over a session.
pub(crate) trait Inbox: Clone + Send + Sync + 'static {
    /// Takes a message. The session reads on when this returns, so nothing in it waits for the session.
    fn take(&self, arrival: Arrival) -> impl Future<Output = ()> + Send;
}

impl Inbox for mpsc::Sender<Arrival> {
    async fn take(&self, arrival: Arrival) {
        if arrival.publish.qos == QoS::AtMostOnce {
            // Nothing bounds how many of these come, and nobody counts on them.
            let _no_room = self.try_send(arrival);
        } else {
            // There is room for all that may come without acknowledgement. Once nobody takes it, it stays unacknowledged.
            let _nobody = self.send(arrival).await;
        }
    }
}

/// Why something did not get to the broker and back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failed {
    /// The connection was lost: whether it took effect is not known.
    Lost,
    /// The broker takes no packet of this size.
    TooLarge { size: usize, limit: usize },
}

impl Failed {
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Lost => lost(operation),
            Self::TooLarge { size, limit } => error(ErrorKind::payload_too_large(size, limit), operation),
        }
    }
}

impl Session {
    /// Connects to one server after the other until one takes it.
    pub(crate) async fn open(config: &Config, spec: &SessionSpec, inbox: impl Inbox) -> Result<Self> {
        let mut attempts = Attempts::default();
        for server in &config.servers {
            match Self::connect(config, server, spec, inbox.clone()).await {
                Ok(session) => return Ok(session),
                Err(error) => attempts.failed(server, error),
            }
        }
        Err(attempts.into_error())
    }

    async fn connect(
        config: &Config,
        server: &ServerUrl,
        spec: &SessionSpec,
        inbox: impl Inbox,
    ) -> Result<Self> {
        let options = options(config, server, spec).await?;
        let (client, mut events) = AsyncClient::builder(options)
            .capacity(REQUEST_CAPACITY)
            .try_build()
            .map_err(|cause| error(ErrorKind::InvalidConfig, "start").source(cause))?;
        let answer = timeout(config.connect_timeout, events.poll()).await;
        let answer = answer.map_err(|_| error(ErrorKind::Unavailable, "start").context("no answer"))?;
        let connack = match answer.map_err(|cause| from_connect(cause, server.scheme().is_encrypted()))? {
            Event::Incoming(Packet::ConnAck(connack)) => connack,
            other => {
                tracing::debug!(?other, "no acknowledgement of a connection");
                return Err(error(ErrorKind::Unexpected, "start"));
            }
        };
        let limits = Limits::of(&connack, spec)?;
        // To save what is in flight each time would only cost.
        events.options.clear_session_store();
        events.options.set_keep_alive(
            u16::try_from(events.options.keep_alive().min(config.keep_alive).as_secs()).unwrap_or(u16::MAX),
        );
        let (client, lost, end) = (Arc::new(client), CancellationToken::new(), CancellationToken::new());
        let reason = Arc::new(OnceLock::new());
        let polling = Polling {
            events,
            client: Arc::clone(&client),
            inbox,
            lost: lost.clone(),
            reason: Arc::clone(&reason),
            end: end.clone(),
        };
        tokio::spawn(polling.run());
        let is_resumed = connack.session_present;
        Ok(Self { client, is_resumed, limits, lost, reason, _end: end.drop_guard() })
    }

    /// Publishes a message; returns what the broker says of it.
    pub(crate) async fn publish(
        &self,
        topic: String,
        payload: Bytes,
        options: PublishOptions,
    ) -> Result<PubAckReason, Failed> {
        self.check_size(&topic, &payload)?;
        let notice = self.client.publish_tracked(topic, payload, options).await;
        match notice.map_err(|_| Failed::Lost)?.wait_async().await {
            Ok(PublishResult::Qos1(acknowledgement)) => Ok(acknowledgement.reason),
            Ok(_) => Ok(PubAckReason::Success),
            Err(_) => Err(Failed::Lost),
        }
    }

    /// Publishes a message. Returns whether somebody gets it.
    pub(crate) async fn publish_once(
        &self,
        topic: String,
        payload: Bytes,
        options: PublishOptions,
        operation: &'static str,
    ) -> Result<bool> {
        match self.publish(topic, payload, options).await {
            Ok(PubAckReason::Success) => Ok(true),
            Ok(PubAckReason::NoMatchingSubscribers) => Ok(false),
            Ok(reason) => Err(refused(reason, operation)),
            Err(failed) => Err(failed.into_error(operation)),
        }
    }

    /// The client would end the connection.
    fn check_size(&self, topic: &str, payload: &Bytes) -> Result<(), Failed> {
        let (size, limit) = (topic.len() + payload.len() + PROPERTIES, self.limits.max_packet);
        if size > limit { Err(Failed::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Publishes a message; returns when it is on its way.
    pub(crate) async fn send(
        &self,
        topic: String,
        payload: Bytes,
        options: PublishOptions,
    ) -> Result<(), Failed> {
        self.check_size(&topic, &payload)?;
        self.client.publish(topic, payload, options).await.map_err(|_| Failed::Lost)
    }

    /// Subscribes; returns when the broker routes to us. What comes has this identifier.
    pub(crate) async fn subscribe(&self, filters: &[String], id: Option<usize>) -> Result<()> {
        self.subscribe_with(filters, id, RetainForwardRule::Never).await
    }

    /// Subscribes to what is kept under a topic.
    pub(crate) async fn subscribe_to_kept(&self, topic: String, id: usize) -> Result<()> {
        self.subscribe_with(&[topic], Some(id), RetainForwardRule::OnEverySubscribe).await
    }

    async fn subscribe_with(
        &self,
        filters: &[String],
        id: Option<usize>,
        retained: RetainForwardRule,
    ) -> Result<()> {
        let filters = filters.iter().map(|filter| {
            SubscribeFilterInput::new(filter, QoS::AtLeastOnce).retain_forward_rule(retained.clone())
        });
        let properties = SubscribeProperties { id, user_properties: Vec::new() };
        let notice = self.client.subscribe_many_with_properties_tracked(filters, properties).await;
        let notice = notice.map_err(|_| lost("register"))?;
        let answer = notice.wait_async().await.map_err(|_| lost("register"))?;
        let is_refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
        match answer.return_codes.into_iter().find(is_refused) {
            Some(code) => Err(not_subscribed(code)),
            None => Ok(()),
        }
    }

    /// Ends a subscription; returns when the broker routes nothing more to it. What it had routed may still come.
    pub(crate) async fn unsubscribe(&self, filter: &str) -> Result<()> {
        let notice = self.client.unsubscribe_tracked(filter).await.map_err(|_| lost("unregister"))?;
        notice.wait_async().await.map(drop).map_err(|_| lost("unregister"))
    }

    /// Sends what is under way, and disconnects. The broker forgets the session now, or keeps it for its time.
    pub(crate) async fn disconnect(&self, forget: bool) {
        let properties = DisconnectProperties {
            session_expiry_interval: forget.then_some(0),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        };
        let reason = DisconnectReasonCode::NormalDisconnection;
        let begun = self.client.disconnect_with_properties_timeout(reason, properties, DISCONNECT_PATIENCE);
        if begun.await.is_ok() {
            self.lost.cancelled().await;
        }
    }

    /// Waits until the connection is lost. Cancel safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns why the connection is lost.
    pub(crate) fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_else(|| "the connection to the broker was lost".to_owned())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_lost", &self.is_lost()).finish_non_exhaustive()
    }
}

impl Limits {
    /// Reads what the broker gives, if it is enough.
    fn of(connack: &ConnAck, spec: &SessionSpec) -> Result<Self> {
        let properties = connack.properties.as_ref();
        let has = |flag: fn(&ConnAckProperties) -> Option<u8>| properties.and_then(flag) != Some(0);
        if !has(|broker| broker.shared_subscription_available) {
            return Err(error(ErrorKind::Unsupported(Capability::SharedSubscriptions), "start"));
        }
        let expiry = properties.and_then(|broker| broker.session_expiry_interval);
        let asked = spec.expiry.map_or(0, seconds);
        if expiry.is_some_and(|granted| granted < asked) {
            tracing::warn!(
                granted = expiry,
                asked,
                "the broker keeps sessions for a shorter time, in seconds"
            );
        }
        if spec.expiry.is_some() && expiry == Some(0) {
            return Err(error(ErrorKind::Unsupported(Capability::DurableSubscriptions), "start"));
        }
        let needed = [
            (has(|broker| broker.max_qos), "QoS 1"),
            (has(|broker| broker.wildcard_subscription_available), "wildcards"),
            (has(|broker| broker.subscription_identifiers_available), "subscription identifiers"),
        ];
        if let Some((_, what)) = needed.into_iter().find(|(is_given, _)| !is_given) {
            return Err(
                error(ErrorKind::TopologyMismatch, "start").context(format!("the broker has no {what}"))
            );
        }
        let max_packet = properties.and_then(|broker| usize::try_from(broker.max_packet_size?).ok());
        let retains = has(|broker| broker.retain_available);
        Ok(Self { max_packet: max_packet.unwrap_or(usize::MAX), retains })
    }
}

/// Drives a connection: nothing else happens here, so that it never waits for what waits for it.
struct Polling<I> {
    events: EventLoop,
    client: Arc<AsyncClient>,
    inbox: I,
    lost: CancellationToken,
    reason: Arc<OnceLock<String>>,
    end: CancellationToken,
}

impl<I: Inbox> Polling<I> {
    async fn run(self) {
        let Self { mut events, client, inbox, lost, reason, end } = self;
        // Also if it unwinds.
        let _lost = lost.drop_guard();
        let poll = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let arrival = Arrival { publish, client: Arc::clone(&client) };
                        inbox.take(arrival).await;
                    }
                    Ok(_) => {}
                    Err(cause) => {
                        let _only = reason.set(cause.to_string());
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = poll => {}
            () = end.cancelled() => {}
        }
    }
}
