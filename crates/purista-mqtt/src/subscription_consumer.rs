use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use purista_core::{
    Message, Result, Subscription,
    adapter::{Backoff, ConsumerTask, Delivery, Intake, Slot, Stop, StopSignal},
};
use rumqttc::Publish;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    acknowledgement::MqttAcknowledgement,
    adoption::Adoption,
    attach::{Attached, Attachment},
    codec::{failed_attempts, is_refusal, times_given_back},
    connection::Connection,
    end_marker::{EndMarker, Place},
    error::lost,
    hand_over::HandOver,
    round_trips::RoundTrips,
    session::{Arrival, Session},
    session_record::{SessionRecord, SessionState},
    standing::{Standing, Trouble},
    transport::MqttTransport,
    watch::{Listening, Watch},
    window::Window,
};

/// How many messages are delivered before it is looked for anything else.
const AT_ONCE: usize = 32;

/// How many questions wait for their answer.
const QUESTIONS_CAPACITY: usize = 64;

/// How long a registration waits for the sessions of others to be adopted.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(3);

/// How long it is not tried again to make room in a window.
const PARKING_PAUSE: Duration = Duration::from_millis(100);

/// How long it may take to restore a session before that is tried again.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Consumes a subscription over a connection of its own: the window of messages that are not acknowledged is one for each
/// connection, and a slow subscription must not take it from the others.
#[derive(Debug)]
pub(crate) struct SubscriptionConsumer {
    task: ConsumerTask,
    watch: ConsumerTask,
    shared: Arc<Shared>,
}

/// What the task and the consumer share.
#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    session: Mutex<Option<(Arc<Session>, Window)>>,
    /// Whether the broker forgets the session at the end, if nothing in it is unsettled.
    forgets: AtomicBool,
    /// Where its record is kept, if it is durable.
    record: Option<String>,
}

/// What a subscription listens to.
struct SubscriptionListening {
    attachment: Arc<Attachment>,
    shared: Arc<Shared>,
}

impl Listening for SubscriptionListening {
    fn session(&self) -> Option<Arc<Session>> {
        self.shared.session.lock().as_ref().map(|(session, _)| Arc::clone(session))
    }

    fn round_trips(&self) -> &RoundTrips {
        &self.attachment.round_trips
    }

    async fn subscribe(&self, session: &Session) -> Result<()> {
        self.attachment.subscribe(session).await
    }

    async fn listens_to_echoes(&self, session: &Session) -> bool {
        self.attachment.listens_to_echoes(session).await
    }
}

impl SubscriptionConsumer {
    /// Starts to consume; returns when the broker routes to us.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        subscription: &Subscription,
        intake: Intake<MqttTransport>,
    ) -> Result<Self> {
        let granted = intake.granted();
        let attachment = Arc::new(Attachment::new(Arc::clone(&connection), subscription, &granted));
        attachment.agree().await?;
        let mut attached = attachment.attach().await?;
        let (to, questions) = mpsc::channel(QUESTIONS_CAPACITY);
        if let Some(hand_over) = &attachment.hand_over {
            let presence = std::slice::from_ref(&hand_over.presence);
            if let Err(error) = connection.subscribe(presence, &to, None).await {
                attached.session.disconnect(!attached.session.is_resumed).await;
                return Err(error);
            }
        }
        match timeout(ADOPTION_PATIENCE, Adoption::begin_all(&attachment)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "what waits for other instances is not adopted"),
            Err(_) => tracing::debug!("what waits for other instances is not adopted in time"),
        }
        let shared = Arc::new(Shared {
            session: Mutex::new(Some(attached.end())),
            forgets: AtomicBool::new(!granted.durable),
            record: granted.durable.then(|| attachment.record.clone()),
            connection,
        });
        let closing = shared.connection.closing().clone();
        let max_delay = shared.connection.config.connection.max_reconnect_delay;
        let standing = Standing::new(intake.clone());
        let watch = Watch {
            listening: SubscriptionListening {
                attachment: Arc::clone(&attachment),
                shared: Arc::clone(&shared),
            },
            standing: standing.clone(),
            topic: attachment.echo.to_string(),
            answers: None,
            connection: Arc::clone(&shared.connection),
        };
        let task = Task {
            waiting: std::mem::take(&mut attached.left).into(),
            standing,
            parking: JoinSet::new(),
            attachment,
            attached,
            attached_at: Instant::now(),
            backoff: Backoff::new(Duration::from_millis(100), max_delay),
            to,
            questions,
            intake,
            shared: Arc::clone(&shared),
        };
        Ok(Self { task: ConsumerTask::spawn(&closing, |stop| task.run(stop)), watch: watch.spawn(), shared })
    }

    /// Takes nothing more. Another instance gets what waits here, if there is one; otherwise it waits at the broker if the
    /// subscription is durable, or is handled here before a shutdown.
    pub(crate) async fn stop(&self, why: Stop) {
        self.watch.stop(why).await;
        self.task.stop(why).await;
    }

    /// Ends the connection, and leaves nothing at the broker but what is durable.
    pub(crate) async fn close(&self) {
        let Some((session, window)) = self.shared.session.lock().take() else { return };
        let Shared { forgets, record, .. } = &*self.shared;
        let forgets = forgets.load(Ordering::Acquire) && (window.is_empty() || record.is_none());
        if let Some(record) = record.as_ref().filter(|_| forgets) {
            // Whoever finds one without a session adopts nothing.
            if let Err(error) = SessionRecord::forget(&session, record).await {
                tracing::debug!(%error, "the record of a session is left");
            }
        }
        session.disconnect(forgets).await;
    }
}

struct Task {
    attachment: Arc<Attachment>,
    standing: Standing,
    /// What makes room in a window that is full.
    parking: JoinSet<()>,
    attached: Attached,
    attached_at: Instant,
    /// The pauses between two attempts to attach again.
    backoff: Backoff,
    /// What came and waits for a handler's place.
    waiting: VecDeque<Arrival>,
    /// What others ask who want to know whether this instance is there.
    questions: mpsc::Receiver<Publish>,
    to: mpsc::Sender<Publish>,
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
            self.standing.note(Trouble::Lost, true);
            if self.attachment.is_durable {
                // What was acknowledged before does not come again.
                self.waiting.retain(|arrival| arrival.copy.is_some());
            } else {
                self.keep_what_came();
            }
            tokio::select! {
                why = stop.told() => return self.finish(why).await,
                () = self.attach_again() => self.standing.note(Trouble::Lost, false),
            }
        }
    }

    async fn serve(&mut self, stop: &mut StopSignal) -> Ended {
        let session = Arc::clone(&self.attached.session);
        loop {
            self.deliver_what_came().await;
            // A handler's place is taken when there is work for it: it may be needed for another attempt.
            let has_work = !self.waiting.is_empty();
            let is_starved = self.is_starved();
            tokio::select! {
                biased;
                why = stop.told() => return Ended::Stopped(why),
                () = session.lost() => return Ended::Lost,
                Some(question) = self.questions.recv() => {
                    self.shared.connection.answer(&question, &self.attachment.listens_to).await;
                }
                Some(arrival) = self.attached.arrivals.recv(), if !has_work => self.waiting.push_back(arrival),
                slot = self.intake.slot(), if has_work || is_starved => {
                    let Some(slot) = slot else { return Ended::Over };
                    match self.waiting.pop_front() {
                        Some(arrival) => self.deliver(slot, arrival).await,
                        None => self.make_room(),
                    }
                }
                Some(_parked) = self.parking.join_next() => {}
            }
        }
    }

    /// Returns whether the broker sends nothing more although there may be free handlers, as messages wait for their next
    /// attempt.
    fn is_starved(&self) -> bool {
        self.waiting.is_empty()
            && self.attached.arrivals.is_empty()
            && self.parking.is_empty()
            && self.attached.window.is_full()
    }

    /// Has the broker send more, in the background, as copies may have to be kept before.
    fn make_room(&mut self) {
        let (window, connection) = (self.attached.window.clone(), Arc::clone(&self.shared.connection));
        let copies = self.attachment.copies.clone();
        self.parking.spawn(async move {
            if let Err(error) = window.park(&connection, copies.as_deref()).await {
                tracing::debug!(%error, "messages that wait for their next attempt keep others from coming");
                sleep(PARKING_PAUSE).await;
            }
        });
    }

    /// Delivers some of what came as long as there are places, which is cheaper than to wait for each.
    async fn deliver_what_came(&mut self) {
        for _ in 0..AT_ONCE {
            let arrival = self.waiting.pop_front().or_else(|| self.attached.arrivals.try_recv().ok());
            let Some(arrival) = arrival else { return };
            // A command that was given back was seen when it was sent.
            let is_no_news = is_refusal(&arrival.publish) || times_given_back(&arrival.publish) > 0;
            if is_no_news || arrival.publish.topic == self.attachment.end {
                self.forget(self.acknowledgement(arrival)).await;
                continue;
            }
            match self.intake.try_slot() {
                Ok(slot) => self.deliver(slot, arrival).await,
                Err(_) => return self.waiting.push_front(arrival),
            }
        }
    }

    /// What a session that ends with its connection has brought comes over no other one.
    fn keep_what_came(&mut self) {
        while let Ok(arrival) = self.attached.arrivals.try_recv() {
            if self.waiting.len() < usize::from(self.attachment.spec.receive_maximum) {
                self.waiting.push_back(arrival);
            } else {
                self.intake.overflowed();
            }
        }
    }

    async fn attach_again(&mut self) {
        let max_delay = self.shared.connection.config.connection.max_reconnect_delay;
        // Two clients with the same id throw each other out: less and less often.
        if self.attached_at.elapsed() >= max_delay {
            self.backoff = Backoff::new(Duration::from_millis(100), max_delay);
        }
        let subscriber = &self.attachment.subscriber;
        let reason = self.attached.session.reason();
        tracing::debug!(%subscriber, reason, "the connection of a subscription is lost");
        let mut was_forgotten = false;
        loop {
            sleep(self.backoff.next_delay()).await;
            match timeout(RESTORE_TIMEOUT, self.attachment.attach_again(&mut was_forgotten)).await {
                Ok(Ok(attached)) => {
                    if was_forgotten {
                        self.shared.connection.link().session_lost();
                    }
                    *self.shared.session.lock() = Some(attached.end());
                    (self.attached, self.attached_at) = (attached, Instant::now());
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
        let acknowledgement = self.acknowledgement(arrival);
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
        let Attachment { hand_over, is_durable, .. } = &*self.attachment;
        let window = self.attached.window.clone();
        Box::new(MqttAcknowledgement {
            held: window.hold(arrival),
            window,
            connection: Arc::clone(&self.shared.connection),
            hand_over: hand_over.clone(),
            comes_again: *is_durable,
        })
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
        self.attachment.ends_echoes(&session).await?;
        if let Some(hand_over) = self.attachment.hand_over.clone() {
            self.questions.close();
            self.shared.connection.unsubscribe(std::slice::from_ref(&hand_over.presence), &self.to).await;
            session.unsubscribe(&hand_over.filter).await?;
            if hand_over.find_takers().await? {
                if self.attachment.is_durable {
                    self.attachment.note(&session, SessionState::Leaving).await?;
                }
                session.unsubscribe(&self.attachment.filter).await?;
                self.hand_over_the_rest(&hand_over).await?;
                self.shared.forgets.store(true, Ordering::Release);
                return Ok(());
            }
        }
        if self.attachment.is_durable {
            return self.attachment.leave_waiting(&session).await;
        }
        session.unsubscribe(&self.attachment.filter).await?;
        if why == Stop::ShutDown {
            return self.handle_the_rest().await;
        }
        self.keep_what_came();
        self.intake.abandoned(self.waiting.len());
        Ok(())
    }

    async fn hand_over_the_rest(&mut self, hand_over: &HandOver) -> Result<()> {
        let end = self.mark_the_end().await?;
        let mut is_over = false;
        while !is_over {
            let mut some = Vec::new();
            while some.len() < AT_ONCE && (some.is_empty() || self.has_more()) {
                match self.next_before(&end).await? {
                    Some(arrival) => some.push(arrival),
                    None => {
                        is_over = true;
                        break;
                    }
                }
            }
            let given = join_all(some.iter().map(|arrival| {
                hand_over.give_to_takers(&arrival.publish, failed_attempts(&arrival.publish))
            }));
            for (given, arrival) in given.await.into_iter().zip(some) {
                if given? {
                    self.forget(self.acknowledgement(arrival)).await;
                } else if self.attachment.is_durable {
                    return Err(lost("hand over").with_context("the other instance is gone"));
                } else if let Some(slot) = self.intake.slot().await {
                    self.deliver(slot, arrival).await;
                }
            }
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        !self.waiting.is_empty() || !self.attached.arrivals.is_empty()
    }

    async fn handle_the_rest(&mut self) -> Result<()> {
        let end = self.mark_the_end().await?;
        while let Some(arrival) = self.next_before(&end).await? {
            let Some(slot) = self.intake.slot().await else { return Ok(()) };
            self.deliver(slot, arrival).await;
        }
        Ok(())
    }

    async fn mark_the_end(&self) -> Result<EndMarker> {
        EndMarker::send(&self.attached.session, &self.attachment.end, "unregister").await
    }

    /// Returns the next message; `None` if all that the broker had for us has come.
    async fn next_before(&mut self, end: &EndMarker) -> Result<Option<Arrival>> {
        loop {
            let arrival = self.next().await?;
            match end.place_of(&arrival.publish) {
                Place::Before => return Ok(Some(arrival)),
                Place::End => return Ok(None),
                Place::Nowhere => self.forget(self.acknowledgement(arrival)).await,
            }
        }
    }

    async fn next(&mut self) -> Result<Arrival> {
        if let Some(arrival) = self.waiting.pop_front() {
            return Ok(arrival);
        }
        tokio::select! {
            biased;
            Some(arrival) = self.attached.arrivals.recv() => Ok(arrival),
            () = self.attached.session.lost() => Err(lost("unregister")),
        }
    }
}
