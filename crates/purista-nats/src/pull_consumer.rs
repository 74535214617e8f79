use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{StatusCode, Subject, jetstream::consumer::DeliverPolicy};
use bytes::Bytes;
use purista_core::{
    Message, Result,
    adapter::{
        Acknowledgement as _, Backoff, ConsumerTask, Delivery, Intake, Restore, Slot, Stop, StopSignal,
    },
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, interval, sleep_until},
};

use crate::{
    codec::{delivery_info, times_given_back},
    connection::Connection,
    consuming::{PartHealth, Why},
    durable::DurableConsumer,
    leased::Leased,
    pull_state::PullState,
    pull_status::{Said, what_is_said},
    refusals::Publisher,
    releases,
    streams::created,
    subscription::Subscription,
    transport::NatsTransport,
};

/// How long a pull request waits for messages.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// How often the server shows that a pull request is still waiting.
const PULL_HEARTBEAT: Duration = Duration::from_secs(3);

/// After how long a pull request that the server does not refuse counts as accepted.
const ACCEPTED_AFTER: Duration = Duration::from_millis(500);

/// How often one looks whether the consumer is as it has to be.
const LOOK: Duration = Duration::from_secs(10);

/// How long a consumer that could not be looked at is not asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long such a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Consumes messages of a stream. It asks for as many as there are free handlers, so none waits here unhandled.
#[derive(Debug)]
pub(crate) struct PullConsumer {
    connection: Arc<Connection>,
    consumer: DurableConsumer,
    task: ConsumerTask,
}

impl PullConsumer {
    /// Creates the consumer at the server, or adopts it, and starts to consume.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        consumer: DurableConsumer,
        intake: Intake<NatsTransport>,
        health: PartHealth,
        until: Instant,
    ) -> Result<Self> {
        let inbox = connection.new_inbox();
        let found = consumer.ensure(&connection, DeliverPolicy::New, false, until).await?;
        let stream_created = created(&connection, consumer.stream(), until).await?;
        let member = connection.subscribe(consumer.members(&connection), None, health.another()).await?;
        let subscription = connection.subscribe(inbox.clone(), None, health.another()).await?;
        let state =
            Arc::new(PullState::new(Arc::clone(&connection), consumer.clone(), stream_created, health));
        state.tell_pause(found);
        let restore: Arc<dyn Restore> = Arc::clone(&state) as Arc<dyn Restore>;
        connection.keep_restored(Arc::downgrade(&restore));
        let publisher: Arc<dyn Publisher> = Arc::clone(&state) as Arc<dyn Publisher>;
        connection.refusals.tell(Arc::downgrade(&publisher));
        let capacity = intake.max_concurrency();
        let (counted, recounted) = mpsc::channel(capacity);
        let task = Task {
            state: Arc::clone(&state),
            intake,
            inbox: inbox.into(),
            subscription,
            member,
            waiting: VecDeque::new(),
            counting: 0,
            counted,
            recounted,
            asked_for: 0,
            heard: Instant::now(),
            pulled: Instant::now(),
            capacity,
            max_batch: usize::MAX,
            refusal: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
            looking: None,
            next_look: Instant::now() + LOOK,
            look_backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(2)),
            was_gone: false,
        };
        let task = ConsumerTask::spawn(connection.closing(), |stop| task.run(stop));
        Ok(Self { connection, consumer, task })
    }

    /// Takes nothing more, and gives back what was not handed to the intake.
    pub(crate) async fn stop(&self, why: Stop) {
        self.task.stop(why).await;
    }

    /// Removes a transient consumer from the server, if no other instance shares it.
    pub(crate) async fn close(&self) -> Result<()> {
        self.consumer.leave(&self.connection, Instant::now() + LOOK_TIMEOUT).await
    }
}

/// A message that came and waits for a free handler.
struct Item {
    message: Arc<Message>,
    original: Bytes,
    acknowledgement: Leased,
    attempt: u32,
}

/// The server refuses pull requests.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// When it is tried again; if that was done, when it counts as accepted.
    next: Instant,
    is_tried: bool,
}

struct Task {
    state: Arc<PullState>,
    intake: Intake<NatsTransport>,
    inbox: Subject,
    subscription: Subscription,
    /// Shows the other instances that this one is there.
    member: Subscription,
    waiting: VecDeque<Item>,
    /// How many messages came again and have their attempts counted.
    counting: usize,
    counted: mpsc::Sender<Item>,
    recounted: mpsc::Receiver<Item>,
    /// How many messages the server may still send.
    asked_for: usize,
    /// When the server was last heard of.
    heard: Instant,
    /// When it was last asked.
    pulled: Instant,
    capacity: usize,
    /// How many messages the server lets us ask for at once.
    max_batch: usize,
    refusal: Option<Refusal>,
    backoff: Backoff,
    looking: Option<JoinHandle<()>>,
    next_look: Instant,
    look_backoff: Backoff,
    /// Whether the server said that the consumer is gone, and nothing came since.
    was_gone: bool,
}

impl Task {
    async fn run(mut self, mut stop: StopSignal) {
        let mut watch = interval(self.state.consumer.ack_wait().min(PULL_HEARTBEAT) / 3);
        loop {
            self.pull().await;
            let all_busy = self.asked_for == 0 && self.intake.free_slots() == 0;
            let wants_slot = !self.waiting.is_empty() || all_busy;
            tokio::select! {
                biased;
                _why = stop.told() => break,
                message = self.subscription.next() => match message {
                    Some(message) => self.take(message).await,
                    None => return self.state.health.ended(),
                },
                Some(item) = self.recounted.recv() => {
                    self.counting -= 1;
                    self.offer(item);
                }
                () = self.state.changed.notified() => self.heed_change(),
                // Others ask who is there.
                _question = self.member.next() => {}
                slot = self.intake.slot(), if wants_slot => match slot {
                    Some(slot) => self.deliver(slot),
                    None => break,
                },
                _looked = async { self.looking.as_mut()?.await.ok() }, if self.looking.is_some() => {
                    self.looking = None;
                    let is_well = self.state.health.is_well();
                    let pause = if is_well { LOOK } else { self.look_backoff.next_delay() };
                    self.next_look = Instant::now() + pause;
                }
                () = sleep_until(self.refusal.map_or(self.next_look, |refusal| refusal.next)),
                    if self.refusal.is_some() => self.try_again().await,
                () = sleep_until(self.next_look), if self.looking.is_none() => self.look(),
                _tick = watch.tick() => self.look_after().await,
            }
        }
        self.finish().await;
    }

    /// Looks, beside all else, whether the consumer is as it has to be, and restores it.
    fn look(&mut self) {
        let (state, closing) = (Arc::clone(&self.state), self.state.connection.closing().clone());
        self.looking = Some(tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = state.look(Instant::now() + LOOK_TIMEOUT) => {}
            }
        }));
    }

    /// Restores a consumer that is gone: at once, as the stream keeps nothing for it meanwhile; with pauses if it is gone
    /// again before anything came.
    fn is_gone(&mut self) {
        // It is asked again when it is there.
        self.refusal = Some(Refusal { next: Instant::now() + LONGEST_WAIT, is_tried: false });
        if std::mem::replace(&mut self.was_gone, true) {
            self.look_soon();
        } else {
            self.next_look = Instant::now();
        }
    }

    /// Looks soon, as something is wrong.
    fn look_soon(&mut self) {
        let soon = Instant::now() + self.look_backoff.next_delay();
        self.next_look = self.next_look.min(soon);
    }

    /// Asks for as many messages as there are free handlers, when it is worth it.
    async fn pull(&mut self) {
        let is_replaced = self.subscription.take_replaced();
        if self.state.must_pull.swap(false, Ordering::AcqRel) || is_replaced {
            self.asked_for = 0;
            let health = &self.state.health;
            if !health.is_down(Why::Lost) && !health.is_down(Why::NotPulling) {
                self.refusal = None;
            }
        }
        if self.refusal.is_some_and(|refusal| refusal.is_tried || Instant::now() < refusal.next) {
            return;
        }
        let expected = self.asked_for + self.waiting.len() + self.counting;
        let free = self.intake.free_slots().saturating_sub(expected);
        let is_suspended = self.state.health.is_down(Why::Suspended);
        if free == 0 || is_suspended || (self.asked_for > 0 && free < self.capacity.div_ceil(2)) {
            return;
        }
        let free = free.min(self.max_batch);
        if self.request(free, json!({})).await {
            self.asked_for += free;
            if self.refusal.is_some() {
                self.refusal = Some(Refusal { next: Instant::now() + ACCEPTED_AFTER, is_tried: true });
            }
        }
    }

    /// Tries again later what the server refuses.
    fn refused(&mut self, text: &str) {
        self.asked_for = 0;
        self.state.health.down(Why::NotPulling, &text);
        self.refusal = Some(Refusal { next: Instant::now() + self.backoff.next_delay(), is_tried: false });
    }

    /// Asks again what was refused, or notes that it is not refused any more.
    async fn try_again(&mut self) {
        if self.refusal.is_some_and(|refusal| refusal.is_tried) {
            return self.accepted();
        }
        self.pull().await;
        // Not now: all handlers are busy, or there is no connection.
        if let Some(refusal) = self.refusal.as_mut().filter(|refusal| !refusal.is_tried) {
            refusal.next = Instant::now() + ACCEPTED_AFTER;
        }
    }

    /// Heeds what was found beside the task: a refused pull request, a consumer that is lost.
    fn heed_change(&mut self) {
        if let Some(text) = self.state.take_refusal() {
            self.refused(&text);
        }
        if !self.state.health.is_well() {
            self.look_soon();
        }
    }

    /// Notes that the server answers pull requests.
    fn accepted(&mut self) {
        self.state.answered();
        self.was_gone = false;
        self.look_backoff.reset();
        if self.refusal.take().is_some() || self.state.health.is_down(Why::NotPulling) {
            self.backoff.reset();
            self.state.health.up(Why::NotPulling);
        }
    }

    async fn request(&mut self, batch: usize, more: serde_json::Value) -> bool {
        let connection = &self.state.connection;
        if !connection.is_up() {
            // When it is up again, everything is asked for anew.
            return false;
        }
        let mut request = json!({
            "batch": batch,
            "expires": PULL_EXPIRES.as_nanos() as u64,
            "idle_heartbeat": PULL_HEARTBEAT.as_nanos() as u64,
        });
        if let (Some(request), serde_json::Value::Object(more)) = (request.as_object_mut(), more) {
            request.extend(more);
        }
        let subject = Subject::from(self.state.consumer.next_subject(connection));
        let payload = Bytes::from(request.to_string());
        self.pulled = Instant::now();
        match connection.publish(subject, Some(self.inbox.clone()), None, payload).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "a pull request could not be sent");
                false
            }
        }
    }

    async fn take(&mut self, message: async_nats::Message) {
        self.heard = Instant::now();
        self.state.health.up(Why::Silent);
        if let Some(status) = message.status {
            return self.take_status(status, &message);
        }
        self.accepted();
        self.asked_for = self.asked_for.saturating_sub(1);
        let was_given_back = times_given_back(&message) > 0;
        let Some((reply_to, info)) =
            message.reply.and_then(|reply_to| Some((reply_to.clone(), delivery_info(reply_to.as_str())?)))
        else {
            return;
        };
        self.state.came(info.sequence);
        let acknowledgement = Leased { shared: Arc::clone(&self.state), reply_to, info };
        if was_given_back {
            // It was seen when it was sent.
            return acknowledgement.terminate().await;
        }
        let decoded = match Message::decode(message.payload.clone()) {
            Ok(decoded) => Arc::new(decoded),
            Err(error) => {
                self.state.connection.link().malformed(&error);
                return acknowledgement.terminate().await;
            }
        };
        let item = Item { message: decoded, original: message.payload, acknowledgement, attempt: 1 };
        if info.delivered == 1 {
            return self.offer(item);
        }
        self.counting += 1;
        let counted = self.counted.clone();
        tokio::spawn(async move {
            let state = &item.acknowledgement.shared;
            let attempt = releases::attempt(&state.connection, state.consumer.name(), info).await;
            // Nobody listens after the end.
            let _ended = counted.send(Item { attempt, ..item }).await;
        });
    }

    /// Takes what the server says of a pull request instead of a message.
    fn take_status(&mut self, status: StatusCode, message: &async_nats::Message) {
        if status == StatusCode::IDLE_HEARTBEAT {
            return self.accepted();
        }
        let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
        // The server says how many messages of a pull request did not come.
        let left = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let left: Option<usize> = left.and_then(|left| left.as_str().parse().ok());
        match what_is_said(status, &description) {
            Said::Gone => {
                self.asked_for = 0;
                if self.state.connection.is_up() {
                    self.state.health.down(Why::Lost, &description);
                    self.is_gone();
                }
            }
            Said::Moved => {
                self.asked_for = 0;
                let soon = Refusal { next: Instant::now() + self.backoff.next_delay(), is_tried: false };
                self.refusal = Some(soon);
                self.look_soon();
            }
            Said::Refused(most) => {
                self.max_batch = most.unwrap_or(self.max_batch);
                self.refused(&description);
            }
            Said::Over => {
                self.accepted();
                match left {
                    Some(left) => self.asked_for = self.asked_for.saturating_sub(left),
                    None if description.contains("maxbytes") => {}
                    None => self.asked_for = 0,
                }
            }
        }
    }

    fn offer(&mut self, item: Item) {
        self.waiting.push_back(item);
        if let Ok(slot) = self.intake.try_slot() {
            self.deliver(slot);
        }
    }

    /// Delivers what came first, if anything waits; otherwise there is a free handler to ask for.
    fn deliver(&mut self, slot: Slot) {
        let Some(Item { message, original, acknowledgement, attempt }) = self.waiting.pop_front() else {
            return;
        };
        let delivery = Delivery::new(message)
            .with_original(original)
            .with_acknowledgement(Box::new(acknowledgement))
            .with_attempt(attempt);
        self.intake.deliver(slot, delivery);
    }

    /// Keeps alive what waits here, and notices a server that forgot us.
    async fn look_after(&mut self) {
        for item in &self.waiting {
            if let Err(error) = item.acknowledgement.extend().await {
                tracing::debug!(%error, "a lease could not be extended");
            }
        }
        if self.asked_for > 0 && self.heard.max(self.pulled).elapsed() > 2 * PULL_HEARTBEAT {
            self.asked_for = 0;
            if self.state.connection.is_up() {
                self.state.health.down(Why::Silent, &"neither messages nor heartbeats");
                self.look_soon();
            }
        }
        let forgotten_after = self.state.consumer.is_forgotten_after();
        if self.asked_for == 0 && forgotten_after.is_some_and(|idle| self.pulled.elapsed() > idle / 3) {
            // The server removes a consumer that nobody asks, also while all handlers are busy. No message is so small.
            self.request(1, json!({ "no_wait": true, "max_bytes": 1, "idle_heartbeat": 0 })).await;
        }
    }

    async fn finish(mut self) {
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
        let mut last = Vec::new();
        self.subscription.drain(&self.state.connection, |message| last.push(message)).await;
        for message in last {
            self.take(message).await;
        }
        while self.counting > 0 {
            let Some(item) = self.recounted.recv().await else { break };
            self.counting -= 1;
            self.waiting.push_back(item);
        }
        // What found a free handler just now is handled; the rest goes back.
        for item in std::mem::take(&mut self.waiting) {
            let failed_attempts = item.attempt - 1;
            if let Err(error) = Box::new(item.acknowledgement).release(failed_attempts).await {
                tracing::warn!(%error, "a message could not be given back: the server will do so");
            }
        }
    }
}
