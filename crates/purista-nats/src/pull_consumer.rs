use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{StatusCode, Subject, jetstream::consumer::DeliverPolicy};
use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{
        Acknowledgement, Backoff, ConsumerTask, Delivery, Intake, Restore, Slot, Stop, StopSignal,
        async_trait,
    },
};
use serde_json::json;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, interval, sleep},
};

use crate::{
    codec::{DeliveryInfo, delivery_info},
    connection::Connection,
    durable::{DurableConsumer, Found},
    releases,
    streams::{created, ensure},
    subscription::Subscription,
    transport::NatsTransport,
};

/// How long a pull request waits for messages.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// How often the server shows that a pull request is still waiting.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);

/// Consumes messages of a stream. It asks for as many as there are free handlers, so none waits here unhandled.
#[derive(Debug)]
pub(crate) struct PullConsumer {
    connection: Arc<Connection>,
    consumer: Arc<DurableConsumer>,
    task: ConsumerTask,
}

/// What the task and its deliveries share. It lives no longer than they do, as the registration lives as long as this.
#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    consumer: Arc<DurableConsumer>,
    /// The number in the stream of the last message that came.
    last_sequence: AtomicU64,
    /// When the stream was created that these numbers are of.
    stream_created: Mutex<String>,
    /// Whether all pull requests are lost.
    must_pull: AtomicBool,
    /// Whether the consumer at the server is another one by now.
    is_suspended: AtomicBool,
    intake: Intake<NatsTransport>,
    restored: Notify,
}

#[async_trait]
impl Restore for Shared {
    async fn restore(&self) -> Result<bool> {
        let begin = self.begin_again().await?;
        let found = match self.consumer.ensure(&self.connection, begin, true).await {
            // What comes now is meant for others; to take and filter it would lose it.
            Err(error) if error.kind() == ErrorKind::TopologyMismatch => {
                tracing::error!(%error, "a subscription is suspended");
                self.is_suspended.store(true, Ordering::Release);
                self.intake.consumer_down();
                return Ok(false);
            }
            found => found?,
        };
        self.is_suspended.store(false, Ordering::Release);
        self.must_pull.store(true, Ordering::Release);
        self.restored.notify_one();
        Ok(found == Found::Created)
    }
}

impl Shared {
    /// Returns where a consumer begins that takes the place of a lost one.
    async fn begin_again(&self) -> Result<DeliverPolicy> {
        let stream = self.consumer.stream();
        ensure(&self.connection, stream).await?;
        let created = created(&self.connection, stream).await?;
        let mut known = self.stream_created.lock();
        if *known != created {
            // Another stream counts anew, and nothing of it has come yet.
            *known = created;
            self.last_sequence.store(0, Ordering::Release);
            return Ok(DeliverPolicy::All);
        }
        Ok(match self.last_sequence.load(Ordering::Acquire) {
            0 => DeliverPolicy::New,
            last => DeliverPolicy::ByStartSequence { start_sequence: last.saturating_add(1) },
        })
    }
}

impl PullConsumer {
    /// Creates the consumer at the server, or adopts it, and starts to consume.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        consumer: DurableConsumer,
        intake: Intake<NatsTransport>,
    ) -> Result<Self> {
        let inbox = connection.new_inbox();
        consumer.ensure(&connection, DeliverPolicy::New, false).await?;
        let stream_created = created(&connection, consumer.stream()).await?;
        let member = Subscription::new(connection.subscribe(consumer.members(&connection), None).await?);
        let subscription = Subscription::new(connection.subscribe(inbox.clone(), None).await?);
        let shared = Arc::new(Shared {
            connection: Arc::clone(&connection),
            consumer: Arc::new(consumer),
            last_sequence: AtomicU64::new(0),
            stream_created: Mutex::new(stream_created),
            must_pull: AtomicBool::new(true),
            is_suspended: AtomicBool::new(false),
            intake: intake.clone(),
            restored: Notify::new(),
        });
        let restore: Arc<dyn Restore> = Arc::clone(&shared) as Arc<dyn Restore>;
        connection.keep_restored(Arc::downgrade(&restore));
        let capacity = intake.max_concurrency();
        let (counted, recounted) = mpsc::channel(capacity);
        let task = Task {
            shared: Arc::clone(&shared),
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
        };
        let consumer = Arc::clone(&shared.consumer);
        let task = ConsumerTask::spawn(connection.closing(), |stop| task.run(stop));
        Ok(Self { connection, consumer, task })
    }

    /// Takes nothing more, and gives back what was not handed to the intake.
    pub(crate) async fn stop(&self, why: Stop) {
        self.task.stop(why).await;
    }

    /// Removes a transient consumer from the server, if no other instance shares it.
    pub(crate) async fn close(&self) -> Result<()> {
        self.consumer.leave(&self.connection).await
    }
}

/// A message that came and waits for a free handler.
struct Item {
    message: Arc<Message>,
    original: Bytes,
    acknowledgement: Leased,
    attempt: u32,
}

struct Task {
    shared: Arc<Shared>,
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
}

impl Task {
    async fn run(mut self, mut stop: StopSignal) {
        let mut watch = interval(self.shared.consumer.ack_wait() / 3);
        loop {
            self.pull().await;
            let all_busy = self.asked_for == 0 && self.intake.free_slots() == 0;
            let wants_slot = !self.waiting.is_empty() || all_busy;
            tokio::select! {
                biased;
                _why = stop.told() => break,
                message = self.subscription.next() => match message {
                    Some(message) => self.take(message).await,
                    None => return self.intake.consumer_down(),
                },
                Some(item) = self.recounted.recv() => {
                    self.counting -= 1;
                    self.offer(item);
                }
                () = self.shared.restored.notified() => {}
                // Others ask who is there.
                _question = self.member.next() => {}
                slot = self.intake.slot(), if wants_slot => match slot {
                    Some(slot) => self.deliver(slot),
                    None => break,
                },
                _tick = watch.tick() => self.look_after().await,
            }
        }
        self.finish().await;
    }

    /// Asks for as many messages as there are free handlers, when it is worth it.
    async fn pull(&mut self) {
        if self.shared.must_pull.swap(false, Ordering::AcqRel) {
            self.asked_for = 0;
        }
        let expected = self.asked_for + self.waiting.len() + self.counting;
        let free = self.intake.free_slots().saturating_sub(expected);
        let is_suspended = self.shared.is_suspended.load(Ordering::Acquire);
        if free == 0 || is_suspended || (self.asked_for > 0 && free < self.capacity.div_ceil(2)) {
            return;
        }
        if self.request(free, json!({})).await {
            self.asked_for += free;
        }
    }

    async fn request(&mut self, batch: usize, more: serde_json::Value) -> bool {
        let connection = &self.shared.connection;
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
        let subject = Subject::from(self.shared.consumer.next_subject(connection));
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
        if let Some(status) = message.status {
            return self.take_status(status, &message).await;
        }
        self.asked_for = self.asked_for.saturating_sub(1);
        let Some((reply_to, info)) =
            message.reply.and_then(|reply_to| Some((reply_to.clone(), delivery_info(reply_to.as_str())?)))
        else {
            return;
        };
        self.shared.last_sequence.fetch_max(info.sequence, Ordering::AcqRel);
        let acknowledgement = Leased { shared: Arc::clone(&self.shared), reply_to, info };
        let decoded = match Message::decode(message.payload.clone()) {
            Ok(decoded) => Arc::new(decoded),
            Err(error) => {
                self.shared.connection.link().malformed(&error);
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
            let shared = &item.acknowledgement.shared;
            let attempt = releases::attempt(&shared.connection, shared.consumer.name(), info).await;
            // Nobody listens after the end.
            let _ended = counted.send(Item { attempt, ..item }).await;
        });
    }

    /// Takes what the server says of a pull request instead of a message.
    async fn take_status(&mut self, status: StatusCode, message: &async_nats::Message) {
        if status == StatusCode::IDLE_HEARTBEAT {
            return;
        }
        let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
        if status == StatusCode::NO_RESPONDERS || description.contains("consumer deleted") {
            return self.consumer_lost().await;
        }
        // The server says how many messages of a pull request did not come.
        let left = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        match left.and_then(|left| left.as_str().parse().ok()) {
            Some(left) => self.asked_for = self.asked_for.saturating_sub(left),
            None if description.contains("maxbytes") => {}
            None => self.asked_for = 0,
        }
    }

    /// Creates the consumer anew that somebody has deleted.
    async fn consumer_lost(&mut self) {
        self.asked_for = 0;
        if !self.shared.connection.is_up() {
            return;
        }
        self.intake.consumer_down();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        while self.shared.connection.is_up() {
            match self.shared.restore().await {
                Ok(_) => break,
                Err(error) => tracing::warn!(%error, "a consumer that was deleted could not be created"),
            }
            sleep(backoff.next_delay()).await;
        }
        self.intake.consumer_up();
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
        }
        let forgotten_after = self.shared.consumer.is_forgotten_after();
        if self.asked_for == 0 && forgotten_after.is_some_and(|idle| self.pulled.elapsed() > idle / 3) {
            // The server removes a consumer that nobody asks, also while all handlers are busy. No message is so small.
            self.request(1, json!({ "no_wait": true, "max_bytes": 1, "idle_heartbeat": 0 })).await;
        }
    }

    async fn finish(mut self) {
        let mut last = Vec::new();
        self.subscription.drain(&self.shared.connection, |message| last.push(message)).await;
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

/// A delivery that the server waits to be acknowledged.
#[derive(Debug)]
struct Leased {
    shared: Arc<Shared>,
    reply_to: Subject,
    info: DeliveryInfo,
}

impl Leased {
    async fn say(&self, what: &'static [u8]) -> Result<()> {
        let connection = &self.shared.connection;
        connection.ready().await?;
        connection.publish(self.reply_to.clone(), None, None, Bytes::from_static(what)).await
    }

    /// It will never be handled.
    async fn terminate(&self) {
        if let Err(error) = self.say(b"+TERM").await {
            tracing::debug!(%error, "a malformed message could not be given up");
        }
    }
}

#[async_trait]
impl Acknowledgement for Leased {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.say(b"+ACK").await
    }

    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        let Shared { connection, consumer, .. } = &*self.shared;
        if let Err(error) = releases::note(connection, consumer.name(), self.info, failed_attempts).await {
            tracing::warn!(%error, "the attempts of a message could not be noted");
        }
        self.say(b"-NAK").await
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.shared.consumer.ack_wait())
    }

    async fn extend(&self) -> Result<()> {
        self.say(b"+WPI").await
    }
}
