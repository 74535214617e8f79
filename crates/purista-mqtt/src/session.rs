use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use purista_core::{Capability, Error, ErrorKind, Result, adapter::ServerUrl};
use rumqttc::{
    AsyncClient, DisconnectProperties, DisconnectReasonCode, Event, Packet, PubAck, PubAckReason, Publish,
    PublishNoticeError, PublishResult, QoS, RetainForwardRule, SubscribeFilterInput, SubscribeProperties,
    SubscribeReasonCode,
};
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    broker_limits::Limits,
    codec::Headers,
    config::Config,
    error::{error, from_connect, lost, not_subscribed, refused, refused_oddly, unsubscribed},
    options::{SessionSpec, options},
    packet_size::{RefusedSizes, Sizes, packet_size},
    polling::{Cut, Loss, Polling},
    puback::{OddReasons, PACKET_TOO_LARGE},
};

/// How many requests wait for their turn on the connection.
const REQUEST_CAPACITY: usize = 1_024;

/// How long it takes to know why a connection is lost.
const LOSS_PATIENCE: Duration = Duration::from_secs(1);

const NO_RETAINED: &str = "the broker keeps no messages (retain_available)";

/// How long the broker may take to confirm what is under way when a connection ends.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One connection to the broker, and what it keeps for it. It never reconnects: another session is opened instead.
pub(crate) struct Session {
    client: Arc<AsyncClient>,
    /// Whether the broker still had it.
    pub(crate) is_resumed: bool,
    pub(crate) limits: Limits,
    lost: CancellationToken,
    loss: Arc<OnceLock<Loss>>,
    sizes: Arc<Sizes>,
    refused: Arc<RefusedSizes>,
    odd_reasons: OddReasons,
    _end: DropGuard,
}

/// A message that came, with the connection that it has to be acknowledged on.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) publish: Publish,
    pub(crate) client: Arc<AsyncClient>,
    /// Where a copy of it is kept, if it was acknowledged before.
    pub(crate) copy: Option<String>,
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
    /// The same, and it may have been lost as the broker takes no packet of this size.
    Suspect { size: usize },
    /// The broker takes no packet of this size.
    TooLarge { size: usize, limit: usize },
    /// The broker keeps no messages.
    KeepsNone,
    /// The broker refuses it for a reason that MQTT does not have.
    Odd(u8),
    /// The client does not send it, although it is connected.
    NotSent,
}

impl Failed {
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Lost | Self::Suspect { .. } => lost(operation),
            Self::TooLarge { size, limit } => error(ErrorKind::payload_too_large(size, limit), operation),
            Self::KeepsNone => {
                error(ErrorKind::Unsupported(Capability::DeadLetter), operation).with_context(NO_RETAINED)
            }
            Self::Odd(reason) => refused_oddly(reason, operation),
            Self::NotSent => {
                error(ErrorKind::Unexpected, operation).with_context("the client does not send it")
            }
        }
    }
}

impl Session {
    /// Connects to one server after the other until one takes it.
    pub(crate) async fn open(config: &Config, spec: &SessionSpec, inbox: impl Inbox) -> Result<Self> {
        config
            .connection
            .servers
            .first_that_takes(|server| Self::connect(config, server, spec, inbox.clone()))
            .await
    }

    async fn connect(
        config: &Config,
        server: &ServerUrl,
        spec: &SessionSpec,
        inbox: impl Inbox,
    ) -> Result<Self> {
        let odd_reasons = OddReasons::default();
        let until = config.connection.connects_until();
        let login = config.login(until).await?;
        let options = options(config, server, login, spec, &odd_reasons).await?;
        let (client, mut events) = AsyncClient::builder(options)
            .capacity(REQUEST_CAPACITY)
            .try_build()
            .map_err(|cause| error(ErrorKind::InvalidConfig, "start").with_source(cause))?;
        let answer = timeout_at(until, events.poll()).await;
        let answer = answer.map_err(|_| error(ErrorKind::Unavailable, "start").with_context("no answer"))?;
        let failed = |cause| from_connect(cause, server.scheme().is_encrypted(), &spec.client_id);
        let connack = match answer.map_err(failed)? {
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
            u16::try_from(events.options.keep_alive().min(config.connection.keep_alive).as_secs())
                .unwrap_or(u16::MAX),
        );
        let (client, lost, end) = (Arc::new(client), CancellationToken::new(), CancellationToken::new());
        let (loss, sizes) = (Arc::new(OnceLock::new()), Arc::new(Sizes::default()));
        let polling = Polling {
            events,
            client: Arc::clone(&client),
            inbox,
            lost: lost.clone(),
            loss: Arc::clone(&loss),
            sizes: Arc::clone(&sizes),
            end: end.clone(),
        };
        tokio::spawn(polling.run());
        Ok(Self {
            client,
            is_resumed: connack.session_present,
            limits,
            lost,
            loss,
            sizes,
            refused: Arc::clone(&spec.refused),
            odd_reasons,
            _end: end.drop_guard(),
        })
    }

    /// Publishes a message; returns what the broker says of it.
    pub(crate) async fn publish(
        &self,
        topic: String,
        payload: Bytes,
        headers: Headers,
    ) -> Result<PubAckReason, Failed> {
        let size = self.check_size(&topic, &payload, &headers)?;
        self.publish_of_size(size, topic, payload, headers).await
    }

    async fn publish_of_size(
        &self,
        size: usize,
        topic: String,
        payload: Bytes,
        headers: Headers,
    ) -> Result<PubAckReason, Failed> {
        self.sizes.begin(size);
        let notice = self.client.publish_tracked(topic, payload, headers.into_options()).await;
        let notice = match notice {
            Ok(notice) => notice,
            Err(_) => return Err(self.failure(size).await),
        };
        match self.unless_lost(notice.wait_async()).await {
            Some(Ok(PublishResult::Qos1(acknowledgement))) => self.judge(size, &acknowledgement),
            Some(Ok(_)) => Ok(PubAckReason::Success),
            Some(Err(PublishNoticeError::RetainNotSupported)) => {
                self.sizes.refused(size);
                Err(Failed::KeepsNone)
            }
            Some(Err(_)) | None => Err(self.failure(size).await),
        }
    }

    /// Waits for what becomes of a request, or returns `None` when the connection is lost before that is known. The client
    /// drops a request without a word that joins its queue at that moment.
    async fn unless_lost<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = outcome => Some(outcome),
            () = self.lost.cancelled() => None,
        }
    }

    /// Finds out what an acknowledgement says.
    fn judge(&self, size: usize, acknowledgement: &PubAck) -> Result<PubAckReason, Failed> {
        let reason = acknowledgement.reason;
        let odd = || self.odd_reasons.take(acknowledgement.pkid);
        match (reason == PubAckReason::UnspecifiedError).then(odd).flatten() {
            Some(PACKET_TOO_LARGE) => {
                self.sizes.refused(size);
                // It tells no limit.
                Err(Failed::TooLarge { size, limit: size - 1 })
            }
            Some(other) => Err(Failed::Odd(other)),
            None => {
                self.sizes.took(size);
                Ok(reason)
            }
        }
    }

    /// Tells why a packet of this size was lost.
    async fn failure(&self, size: usize) -> Failed {
        // Whoever waits hears it before the reason is known.
        if timeout(LOSS_PATIENCE, self.lost.cancelled()).await.is_err() {
            return Failed::NotSent;
        }
        match self.loss.get().map(|loss| loss.cut) {
            Some(Cut::TooLarge) if self.sizes.is_suspect(size) => self.blame(size),
            Some(Cut::Unclear) if self.sizes.is_suspect(size) => Failed::Suspect { size },
            _ => Failed::Lost,
        }
    }

    /// Notes that connections are lost for packets of this size.
    pub(crate) fn blame(&self, size: usize) -> Failed {
        self.refused.note(size);
        Failed::TooLarge { size, limit: size - 1 }
    }

    /// Publishes a message. Returns whether somebody gets it.
    pub(crate) async fn publish_once(
        &self,
        topic: String,
        payload: Bytes,
        headers: Headers,
        operation: &'static str,
    ) -> Result<bool> {
        match self.publish(topic, payload, headers).await {
            Ok(PubAckReason::Success) => Ok(true),
            Ok(PubAckReason::NoMatchingSubscribers) => Ok(false),
            Ok(reason) => Err(refused(reason, operation)),
            Err(failed) => Err(failed.into_error(operation)),
        }
    }

    /// The client would end the connection, or the broker.
    fn check_size(&self, topic: &str, payload: &Bytes, headers: &Headers) -> Result<usize, Failed> {
        let size = packet_size(topic, payload.len(), &headers.properties);
        let limit = self.limits.max_packet.min(self.refused.limit());
        if size > limit { Err(Failed::TooLarge { size, limit }) } else { Ok(size) }
    }

    /// Publishes a message; returns when it is on its way. One that is larger than any before is waited for, as the broker
    /// may refuse it.
    pub(crate) async fn send(&self, topic: String, payload: Bytes, headers: Headers) -> Result<(), Failed> {
        let size = self.check_size(&topic, &payload, &headers)?;
        if !self.sizes.is_taken(size) {
            return self.publish_of_size(size, topic, payload, headers).await.map(drop);
        }
        self.client.publish(topic, payload, headers.into_options()).await.map_err(|_| Failed::Lost)
    }

    /// Subscribes; returns when the broker routes to us. What comes has this identifier.
    pub(crate) async fn subscribe(&self, filters: &[String], id: Option<usize>) -> Result<()> {
        self.subscribe_with(filters, id, QoS::AtLeastOnce, RetainForwardRule::Never).await
    }

    /// Subscribes to what a client sends to itself to find out what it may read. It comes without acknowledgement, so a full
    /// window does not hold it up.
    pub(crate) async fn subscribe_to_echoes(&self, filter: String, id: Option<usize>) -> Result<()> {
        self.subscribe_with(&[filter], id, QoS::AtMostOnce, RetainForwardRule::Never).await
    }

    /// Subscribes to what is kept under a topic.
    pub(crate) async fn subscribe_to_kept(&self, topic: String, id: usize) -> Result<()> {
        self.subscribe_with(&[topic], Some(id), QoS::AtLeastOnce, RetainForwardRule::OnEverySubscribe).await
    }

    async fn subscribe_with(
        &self,
        filters: &[String],
        id: Option<usize>,
        qos: QoS,
        retained: RetainForwardRule,
    ) -> Result<()> {
        // Beside a filter are its length and options; beside all of them the identifier and the like.
        let size = 32 + filters.iter().map(|filter| 3 + filter.len()).sum::<usize>();
        if size > self.limits.max_packet {
            let context = format!("the broker takes no filter of {size} bytes (max_packet_size)");
            return Err(error(ErrorKind::TopologyMismatch, "register").with_context(context));
        }
        let filters = filters
            .iter()
            .map(|filter| SubscribeFilterInput::new(filter, qos).retain_forward_rule(retained.clone()));
        let properties = SubscribeProperties { id, user_properties: Vec::new() };
        let notice = self.client.subscribe_many_with_properties_tracked(filters, properties).await;
        let notice = notice.map_err(|_| lost("register"))?;
        let answer = self.unless_lost(notice.wait_async()).await;
        let answer = answer.and_then(Result::ok).ok_or_else(|| lost("register"))?;
        let is_refused = |code: &SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
        match answer.return_codes.into_iter().find(is_refused) {
            Some(code) => Err(not_subscribed(code)),
            None => Ok(()),
        }
    }

    /// Ends a subscription; returns when the broker routes nothing more to it. What it had routed may still come.
    pub(crate) async fn unsubscribe(&self, filter: &str) -> Result<()> {
        let notice = self.client.unsubscribe_tracked(filter).await.map_err(|_| lost("unregister"))?;
        let answer = self.unless_lost(notice.wait_async()).await;
        let answer = answer.and_then(Result::ok).ok_or_else(|| lost("unregister"))?;
        answer.reasons.into_iter().try_for_each(unsubscribed)
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

    /// Makes an arrival of the copy of a message that was acknowledged before.
    pub(crate) fn arrival_of_copy(&self, publish: Publish) -> Arrival {
        let copy = Some(String::from_utf8_lossy(&publish.topic).into_owned());
        Arrival { publish, client: Arc::clone(&self.client), copy }
    }

    /// Waits until the connection is lost. Cancel safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Returns whether another connection has taken over its client id.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.loss.get().is_some_and(|loss| loss.cut == Cut::TakenOver)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns why the connection is lost.
    pub(crate) fn reason(&self) -> String {
        let reason = self.loss.get().map(|loss| loss.reason.clone());
        reason.unwrap_or_else(|| "the connection to the broker was lost".to_owned())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_lost", &self.is_lost()).finish_non_exhaustive()
    }
}
