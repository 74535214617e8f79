use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    Granted, Message, Result, ServiceAddress, Sharing, Subscription,
    adapter::{Backoff, ConsumerTask, Delivery, Intake, Slot, Stop, StopSignal},
};
use rumqttc::AckMode;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{
    acknowledgement::MqttAcknowledgement,
    address::{name, shared},
    codec::{failed_attempts, is_refusal, kept, probe},
    connection::Connection,
    error::lost,
    hand_over::HandOver,
    options::SessionSpec,
    session::{Arrival, Session},
    transport::MqttTransport,
};

/// How many messages a subscription publishes over its own connection: none.
const MAX_INFLIGHT: u16 = 1;

/// How long it may take to restore a session before that is tried again.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Consumes a subscription over a connection of its own: the window of messages that are not acknowledged is one for each
/// connection, and a slow subscription must not take it from the others.
#[derive(Debug)]
pub(crate) struct SubscriptionConsumer {
    task: ConsumerTask,
    shared: Arc<Shared>,
}

/// What the task and the consumer share.
#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    session: Mutex<Option<Arc<Session>>>,
    /// Whether the broker forgets the session at the end.
    forgets: AtomicBool,
    record: String,
}

impl SubscriptionConsumer {
    /// Starts to consume; returns when the broker routes to us.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        subscription: &Subscription,
        granted: &Granted,
        intake: Intake<MqttTransport>,
    ) -> Result<Self> {
        let attachment = Attachment::new(Arc::clone(&connection), subscription, granted);
        let attached = attachment.attach().await?;
        let shared = Arc::new(Shared {
            record: connection.names.session(&attachment.spec.client_id),
            session: Mutex::new(Some(Arc::clone(&attached.session))),
            forgets: AtomicBool::new(!granted.durable),
            connection,
        });
        let closing = shared.connection.closing().clone();
        let task = Task { attachment, attached, intake, shared: Arc::clone(&shared) };
        Ok(Self { task: ConsumerTask::spawn(&closing, |stop| task.run(stop)), shared })
    }

    /// Takes nothing more. Another instance gets what waits here, if there is one; otherwise it waits at the broker if the
    /// subscription is durable, or is handled here before a shutdown.
    pub(crate) async fn stop(&self, why: Stop) {
        self.task.stop(why).await;
    }

    /// Ends the connection, and leaves nothing at the broker but what is durable.
    pub(crate) async fn close(&self) {
        let Some(session) = self.shared.session.lock().take() else { return };
        let forgets = self.shared.forgets.load(Ordering::Acquire);
        session.disconnect(forgets).await;
    }
}

/// How a subscription is attached to the broker.
#[derive(Debug)]
struct Attachment {
    connection: Arc<Connection>,
    subscriber: ServiceAddress,
    spec: SessionSpec,
    filter: String,
    hand_over: Option<Arc<HandOver>>,
    is_durable: bool,
}

/// A session with what comes over it.
#[derive(Debug)]
struct Attached {
    session: Arc<Session>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Attachment {
    fn new(connection: Arc<Connection>, subscription: &Subscription, granted: &Granted) -> Self {
        let (names, config) = (&connection.names, &connection.config);
        let subscriber = &subscription.subscriber;
        let pattern = names.pattern(&subscription.filter);
        let (filter, hand_over) = match granted.sharing {
            Sharing::Broadcast => (pattern, None),
            _ => {
                let hand_over = Arc::new(HandOver::new(Arc::clone(&connection), subscriber));
                (shared(&name(subscriber, None), &pattern), Some(hand_over))
            }
        };
        let spec = SessionSpec {
            client_id: names.subscriber_client(subscriber, connection.link().instance_id()),
            expiry: config.session_expiry.filter(|_| granted.durable),
            receive_maximum: config.receive_maximum,
            max_inflight: MAX_INFLIGHT,
            ack_mode: AckMode::Manual,
        };
        Self {
            subscriber: subscriber.clone(),
            spec,
            filter,
            hand_over,
            is_durable: granted.durable,
            connection,
        }
    }

    async fn attach(&self) -> Result<Attached> {
        // Room for all that can come before an acknowledgement, so that the connection never waits here.
        let (inbox, arrivals) = mpsc::channel(usize::from(self.spec.receive_maximum) + 1);
        let session = Session::open(&self.connection.config, &self.spec, inbox).await?;
        if let Err(error) = self.subscribe(&session).await {
            session.disconnect(!session.is_resumed).await;
            return Err(error);
        }
        Ok(Attached { session: Arc::new(session), arrivals })
    }

    async fn subscribe(&self, session: &Session) -> Result<()> {
        if self.is_durable {
            self.replace_other_filter(session).await?;
        }
        let mut filters = vec![self.filter.clone()];
        filters.extend(self.hand_over.as_ref().map(|hand_over| hand_over.filter.clone()));
        session.subscribe(&filters, None).await
    }

    /// Ends what a session listens to that was registered with another filter before. The broker does not tell what that
    /// is, so it is kept under a topic.
    async fn replace_other_filter(&self, session: &Session) -> Result<()> {
        let record = self.connection.names.session(&self.spec.client_id);
        if session.is_resumed
            && let Some(before) = self.connection.kept(&record).await?
        {
            if before == self.filter {
                return Ok(());
            }
            let before = String::from_utf8_lossy(&before);
            session.unsubscribe(&before).await.map_err(|_| lost("register"))?;
        }
        let filter = Bytes::from(self.filter.clone());
        self.connection.publish_once(record, filter, kept(), "register").await.map(drop)
    }
}

struct Task {
    attachment: Attachment,
    attached: Attached,
    intake: Intake<MqttTransport>,
    shared: Arc<Shared>,
}

/// Why a session is not served any more.
enum Ended {
    Stopped(Stop),
    Lost,
    /// The registration takes no more work.
    Over,
}

impl Task {
    async fn run(mut self, mut stop: StopSignal) {
        loop {
            match self.serve(&mut stop).await {
                Ended::Stopped(why) => return self.finish(why).await,
                Ended::Over => return,
                Ended::Lost => {}
            }
            self.intake.consumer_down();
            tokio::select! {
                _stopped = stop.told() => return,
                () = self.attach_again() => self.intake.consumer_up(),
            }
        }
    }

    async fn serve(&mut self, stop: &mut StopSignal) -> Ended {
        let session = Arc::clone(&self.attached.session);
        loop {
            let slot = tokio::select! {
                biased;
                why = stop.told() => return Ended::Stopped(why),
                () = session.lost() => return Ended::Lost,
                slot = self.intake.slot() => slot,
            };
            let Some(slot) = slot else { return Ended::Over };
            tokio::select! {
                biased;
                why = stop.told() => return Ended::Stopped(why),
                arrival = self.attached.arrivals.recv() => match arrival {
                    Some(arrival) => self.deliver(slot, arrival).await,
                    None => return Ended::Lost,
                },
            }
        }
    }

    async fn attach_again(&mut self) {
        let max_delay = self.shared.connection.config.max_reconnect_delay;
        let mut backoff = Backoff::new(Duration::from_millis(100), max_delay);
        let subscriber = &self.attachment.subscriber;
        let reason = self.attached.session.reason();
        tracing::debug!(%subscriber, reason, "the connection of a subscription is lost");
        if self.attached.session.was_taken_over() {
            tracing::warn!(%subscriber, "another client has its id: is the instance id unique?");
            sleep(max_delay).await;
        }
        loop {
            sleep(backoff.next_delay()).await;
            match timeout(RESTORE_TIMEOUT, self.attachment.attach()).await {
                Ok(Ok(attached)) => {
                    if self.attachment.is_durable && !attached.session.is_resumed {
                        self.shared.connection.link().session_lost();
                    }
                    *self.shared.session.lock() = Some(Arc::clone(&attached.session));
                    self.attached = attached;
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%error, %subscriber, "not attached again"),
                Err(_) => tracing::debug!(%subscriber, "not attached again in time"),
            }
        }
    }

    /// Delivers a message, if it is one.
    async fn deliver(&self, slot: Slot, arrival: Arrival) {
        let publish = &arrival.publish;
        let attempt = failed_attempts(publish).saturating_add(1);
        let original = publish.payload.clone();
        let is_probe =
            self.attachment.hand_over.as_ref().is_some_and(|hand_over| hand_over.is_probe(publish));
        let is_noise = is_probe || is_refusal(publish);
        let acknowledgement = self.acknowledgement(arrival);
        if is_noise {
            return self.forget(acknowledgement).await;
        }
        match Message::decode(original.clone()) {
            Ok(message) => {
                let delivery = Delivery::new(Arc::new(message))
                    .with_original(original)
                    .with_attempt(attempt)
                    .with_acknowledgement(acknowledgement);
                self.intake.deliver(slot, delivery);
            }
            Err(error) => {
                self.shared.connection.link().malformed(&error);
                self.forget(acknowledgement).await;
            }
        }
    }

    fn acknowledgement(&self, arrival: Arrival) -> Box<MqttAcknowledgement> {
        let Attachment { hand_over, is_durable, .. } = &self.attachment;
        Box::new(MqttAcknowledgement::new(arrival, hand_over.clone(), *is_durable))
    }

    async fn forget(&self, acknowledgement: Box<MqttAcknowledgement>) {
        use purista_core::adapter::Acknowledgement as _;
        if let Err(error) = acknowledgement.accept().await {
            tracing::debug!(%error, "not acknowledged");
        }
    }

    async fn finish(&mut self, why: Stop) {
        if let Err(error) = self.leave(why).await {
            tracing::debug!(%error, subscriber = %self.attachment.subscriber, "a subscription could not be left in order");
        }
    }

    async fn leave(&mut self, why: Stop) -> Result<()> {
        let session = Arc::clone(&self.attached.session);
        let gone = |_| lost("unregister");
        if let Some(hand_over) = self.attachment.hand_over.clone() {
            session.unsubscribe(&hand_over.filter).await.map_err(gone)?;
            if hand_over.has_taker().await? {
                session.unsubscribe(&self.attachment.filter).await.map_err(gone)?;
                self.shared.forgets.store(true, Ordering::Release);
                self.forget_record().await?;
                return self.hand_over_the_rest(&hand_over).await;
            }
        }
        if self.attachment.is_durable {
            return Ok(());
        }
        session.unsubscribe(&self.attachment.filter).await.map_err(gone)?;
        match why {
            Stop::ShutDown => self.handle_the_rest().await,
            _ => {
                while self.attached.arrivals.try_recv().is_ok() {
                    self.intake.abandoned(1);
                }
                Ok(())
            }
        }
    }

    async fn forget_record(&self) -> Result<()> {
        if !self.attachment.is_durable {
            return Ok(());
        }
        let (record, nothing) = (self.shared.record.clone(), Bytes::new());
        self.shared.connection.publish_once(record, nothing, kept(), "unregister").await.map(drop)
    }

    async fn hand_over_the_rest(&mut self, hand_over: &HandOver) -> Result<()> {
        let end = self.mark_the_end().await?;
        while let Some(arrival) = self.attached.arrivals.recv().await {
            if arrival.publish.topic == end {
                return Ok(());
            }
            let acknowledgement = self.acknowledgement(arrival);
            let publish = acknowledgement.publish();
            if hand_over.give(publish, failed_attempts(publish)).await? {
                self.forget(acknowledgement).await;
            } else if let Some(slot) = self.intake.slot().await {
                // The other one has left meanwhile.
                self.deliver(slot, acknowledgement.into_arrival()).await;
            }
        }
        Err(lost("unregister"))
    }

    async fn handle_the_rest(&mut self) -> Result<()> {
        let end = self.mark_the_end().await?;
        while let Some(arrival) = self.attached.arrivals.recv().await {
            if arrival.publish.topic == end {
                return Ok(());
            }
            let Some(slot) = self.intake.slot().await else { return Ok(()) };
            self.deliver(slot, arrival).await;
        }
        Err(lost("unregister"))
    }

    /// Has something come after all that the broker has for us; returns its topic.
    async fn mark_the_end(&self) -> Result<String> {
        let topic = self.shared.connection.names.round_trip(&self.attachment.spec.client_id);
        self.attached.session.subscribe(std::slice::from_ref(&topic), None).await?;
        self.shared.connection.publish_once(topic.clone(), Bytes::new(), probe(), "unregister").await?;
        Ok(topic)
    }
}
