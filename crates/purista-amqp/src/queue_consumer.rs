use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::SelectAll};
use lapin::{message::Delivery as Incoming, options::BasicCancelOptions, types::ShortString};
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{Backoff, ConsumerTask, Delivery, Intake, Restore, Slot, Stop, StopSignal},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    acks::Acks,
    attach::{Attached, attach, consume, remove_if_unused},
    audit::Audited,
    codec::{Reply, beside, deadline, failed_attempts, given_back_to_share, redrives, times_given_back},
    connection::Connection,
    delivery::Unacknowledged,
    error::error,
    registration::{Consuming, Registration},
    session::Session,
    source::{Came, Event, Events, Source},
    topology::{Plan, Route, Topology},
    transport::AmqpTransport,
    typescript,
};

/// The plan of the queue that instances share.
const SHARED: usize = 0;

/// Consumes the queues of one registration.
#[derive(Debug)]
pub(crate) struct QueueConsumer {
    shared: Arc<Registration>,
    task: ConsumerTask,
}

/// How often a command for a named instance is given back to the queue that its instances share, for the original, which
/// has no other way to one of its instances.
const MAX_GIVEN_BACK: u32 = 24;

/// Gives a command to the instance that it is meant for, or back to the queue where one of the original may get it. If it
/// is not there, it is refused here.
async fn pass_on(item: Item, route: Route, passed_back: mpsc::UnboundedSender<Item>) {
    let Unacknowledged { acks, tag, connection, properties, body, queue, .. } = &item.acknowledgement;
    let times = times_given_back(properties);
    // An instance of ours is found at the first time.
    let mut passed_on = Ok(false);
    if times == 0 {
        let route = Route { properties: properties.clone(), ..route };
        passed_on = connection.publish_to_queue(route, body.clone()).await;
    }
    if let (Ok(false), true, Some(queue)) = (&passed_on, times < MAX_GIVEN_BACK, queue) {
        let route = Route {
            exchange: ShortString::default(),
            routing_key: queue.clone(),
            properties: given_back_to_share(properties, times + 1, item.reply.deadline),
        };
        passed_on = connection.publish_to_queue(route, body.clone()).await;
    }
    match passed_on {
        Ok(true) => {
            // On a channel that is closed it comes again; the caller takes the first answer.
            let _closed = acks.accept(*tag);
        }
        Ok(false) | Err(_) => {
            // Nobody listens after the end: the broker takes it back.
            let _ended = passed_back.send(item);
        }
    }
}

impl QueueConsumer {
    /// Declares the queues, and starts to consume.
    pub(crate) async fn open(
        connection: Arc<Connection>,
        plans: Vec<Plan>,
        intake: Intake<AmqpTransport>,
    ) -> Result<Self> {
        let attached = attach(&connection.session(), &plans, false).await?;
        let shared = Arc::new(Registration::new(Arc::clone(&connection), plans, intake, &attached));
        let restore: Arc<dyn Restore> = Arc::clone(&shared) as Arc<dyn Restore>;
        connection.keep_restored(Arc::downgrade(&restore));
        let audited: Arc<dyn Audited> = Arc::clone(&shared) as Arc<dyn Audited>;
        connection.keep_audited(Arc::downgrade(&audited));
        let task = Task::new(Arc::clone(&shared), attached);
        let task = ConsumerTask::spawn(connection.closing(), |stop| task.run(stop));
        Ok(Self { shared, task })
    }

    /// Takes nothing more, and gives back what was not handed to the intake.
    pub(crate) async fn stop(&self, why: Stop) {
        self.shared.stop();
        self.task.stop(why).await;
    }

    /// Ends it after its last acknowledgement.
    pub(crate) async fn close(&self) -> Result<()> {
        self.shared.consuming().acks.close("no more messages are taken").await;
        if !self.shared.connection.is_up() {
            return Ok(());
        }
        let session = self.shared.connection.session();
        for plan in self.shared.plans.iter().filter(|plan| plan.removed_when_unused) {
            remove_if_unused(&session, plan).await?;
        }
        Ok(())
    }
}

/// A message that waits for a free handler.
struct Item {
    message: Arc<Message>,
    reply: Reply,
    acknowledgement: Unacknowledged,
}

struct Task {
    shared: Arc<Registration>,
    session: Arc<Session>,
    plans: Arc<[Plan]>,
    acks: Arc<Acks>,
    events: SelectAll<Events>,
    sources: Vec<Source>,
    waiting: VecDeque<Item>,
    /// Where commands come back that could not be passed on.
    passed_back: mpsc::UnboundedSender<Item>,
    came_back: mpsc::UnboundedReceiver<Item>,
    /// When to attach anew what was cancelled.
    attach_at: Option<Instant>,
    backoff: Backoff,
}

impl Task {
    fn new(shared: Arc<Registration>, attached: Attached) -> Self {
        let Consuming { acks, plans } = shared.consuming();
        // Not more come back than the prefetch allows.
        let (passed_back, came_back) = mpsc::unbounded_channel();
        let mut task = Self {
            passed_back,
            came_back,
            session: Arc::clone(&attached.session),
            plans,
            acks,
            shared,
            events: SelectAll::new(),
            sources: Vec::new(),
            waiting: VecDeque::new(),
            attach_at: None,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_secs(1)),
        };
        task.listen_to(attached);
        task
    }

    fn listen_to(&mut self, attached: Attached) {
        for (plan, consumer) in attached.consumers.into_iter().enumerate() {
            self.listen(consumer, plan);
        }
    }

    fn listen(&mut self, consumer: lapin::Consumer, plan: usize) {
        let (source, events) = Source::new(consumer, plan, &self.plans);
        self.sources.push(source);
        self.events.push(events);
    }

    async fn run(mut self, mut stop: StopSignal) {
        loop {
            let is_starved = self.is_starved();
            let wants_slot = !self.waiting.is_empty() || is_starved;
            let attach_at = self.attach_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                _why = stop.told() => break,
                () = self.shared.is_attached.notified() => self.switch(),
                () = self.shared.is_broken.notified() => self.ended(),
                () = self.shared.is_refused.notified() => self.try_later(),
                event = self.events.next(), if !self.events.is_empty() => match event {
                    Some(Event::Came(came)) => self.take(*came),
                    Some(Event::Ended(tag)) if self.sources.iter().any(|source| source.tag == tag) => {
                        self.ended();
                    }
                    // One that was replaced.
                    Some(Event::Ended(_)) | None => {}
                },
                slot = self.shared.intake.slot(), if wants_slot => match slot {
                    Some(slot) if self.waiting.is_empty() => {
                        drop(slot);
                        self.ask_for_more().await;
                    }
                    Some(slot) => self.deliver(slot),
                    None => break,
                },
                Some(item) = self.came_back.recv() => self.offer(item),
                () = sleep_until(attach_at), if self.attach_at.is_some() => tokio::select! {
                    biased;
                    _why = stop.told() => break,
                    () = self.attach_again() => {}
                },
            }
        }
        self.finish().await;
    }

    /// Returns whether the broker sends nothing more although there may be free handlers, as messages wait for their
    /// next attempt.
    fn is_starved(&self) -> bool {
        self.waiting.is_empty()
            && self.shared.intake.tries_again()
            && !self.events.is_empty()
            && self.sources.iter().any(|source| source.plan == SHARED && source.is_full())
    }

    /// Consumes anew from the shared queue. What the consumer before has sent stays ours until it is acknowledged, and
    /// takes no place of the next one: so no more comes ahead than before, however many wait.
    async fn ask_for_more(&mut self) {
        if !self.is_starved() {
            return;
        }
        let next = self.session.unless_lost(consume(self.acks.channel(), &self.plans[SHARED])).await;
        match next {
            Some(Ok(consumer)) => {
                let (replaced, kept) =
                    std::mem::take(&mut self.sources).into_iter().partition(|source| source.plan == SHARED);
                self.sources = kept;
                self.listen(consumer, SHARED);
                self.cancel(replaced).await;
            }
            Some(Err(error)) => tracing::debug!(%error, "no further consumer"),
            None => {}
        }
    }

    /// Has the broker send nothing more to some consumers.
    async fn cancel(&mut self, sources: Vec<Source>) {
        for Source { tag, .. } in sources {
            let cancel = self.acks.channel().basic_cancel(tag, BasicCancelOptions::default());
            if let Some(Err(error)) = self.session.unless_lost(cancel).await {
                tracing::trace!(%error, "cancel");
            }
        }
    }

    /// Goes on with what was attached on a new channel. What waits here came over the old one, and comes again.
    fn switch(&mut self) {
        let Some(attached) = self.shared.attached.lock().take() else { return };
        self.waiting.clear();
        self.events.clear();
        self.sources.clear();
        self.attach_at = None;
        self.backoff.reset();
        self.session = Arc::clone(&attached.session);
        let consuming = Consuming::of(&attached);
        *self.shared.consuming.lock() = consuming.clone();
        (self.plans, self.acks) = (consuming.plans, consuming.acks);
        self.listen_to(attached);
        self.shared.intake.consumer_up();
    }

    /// Somebody has deleted a queue or closed a channel, or the connection is lost, after which all is restored.
    fn ended(&mut self) {
        self.attach_at.get_or_insert_with(Instant::now);
    }

    fn try_later(&mut self) {
        self.attach_at = Some(Instant::now() + self.backoff.next_delay());
    }

    async fn attach_again(&mut self) {
        self.attach_at = None;
        let session = self.shared.connection.session();
        if session.is_lost() {
            // All is restored on the next connection.
            return;
        }
        self.shared.intake.consumer_down();
        let again = async {
            // First the new consumer: a queue that lasts as long as its consumers would be gone with what waits in it.
            let attached = self.shared.attach_anew().await;
            self.acks.close("a consumer was cancelled").await;
            attached
        };
        // Rare, and large.
        if let Some(Err(_logged)) = Box::pin(session.unless_lost(again)).await {
            self.try_later();
        }
    }

    fn take(&mut self, came: Came) {
        let arrived = Instant::now();
        let Came { delivery, plan, in_window } = came;
        let Incoming { delivery_tag: tag, redelivered, properties, data, .. } = delivery;
        self.acks.came(tag);
        let (body, connection) = (Bytes::from(data), &self.shared.connection);
        let acknowledgement = Unacknowledged {
            acks: Arc::clone(&self.acks),
            tag,
            connection: Arc::clone(connection),
            body: body.clone(),
            queue: Some(self.plans[plan].queue.name.clone()),
            failed: failed_attempts(&properties, redelivered),
            properties,
            _in_window: in_window,
        };
        let reply = Reply {
            to: acknowledgement.properties.reply_to().clone(),
            deadline: deadline(&acknowledgement.properties, arrived),
            refuses: false,
        };
        let decoded = Message::decode(body.clone()).and_then(|message| match &connection.topology {
            Topology::TypeScript(_) => {
                match typescript::contradicts(&message, acknowledgement.properties.headers().as_ref()) {
                    None => Ok(message),
                    Some(header) => Err(error(ErrorKind::InvalidMessage, "message")
                        .with_context(format!("the header {header} contradicts the message"))),
                }
            }
            Topology::Native(_) => Ok(message),
        });
        let message = match decoded {
            Ok(message) => Arc::new(message),
            Err(error) => {
                let beside = |name: &str| beside(&acknowledgement.properties, name);
                self.shared.intake.unreadable(&error, &body, reply, beside);
                // On a channel that is closed it comes again, and is counted again.
                let _closed = self.acks.accept(tag);
                return;
            }
        };
        let item = Item { message, reply, acknowledgement };
        match self.shared.meant_for_another(&item.message) {
            Some(route) if plan == SHARED => {
                tokio::spawn(pass_on(item, route, self.passed_back.clone()));
            }
            _ => self.offer(item),
        }
    }

    fn offer(&mut self, item: Item) {
        self.waiting.push_back(item);
        if let Ok(slot) = self.shared.intake.try_slot() {
            self.deliver(slot);
        }
    }

    /// Delivers what came first.
    fn deliver(&mut self, slot: Slot) {
        let Some(Item { message, reply, acknowledgement }) = self.waiting.pop_front() else { return };
        let (original, attempt) = (acknowledgement.body.clone(), acknowledgement.failed.attempt());
        let (deadline, redrives) = (reply.deadline, redrives(&acknowledgement.properties));
        let delivery = Delivery::new(message)
            .with_original(original)
            .with_acknowledgement(Box::new(acknowledgement))
            .with_attempt(attempt)
            .with_redrives(redrives)
            .with_reply_to(reply, deadline);
        self.shared.intake.deliver(slot, delivery);
    }

    async fn finish(mut self) {
        let sources = std::mem::take(&mut self.sources);
        self.cancel(sources).await;
        // What the broker had sent until then.
        while let Some(Some(event)) = self.events.next().now_or_never() {
            if let Event::Came(came) = event {
                self.take(*came);
            }
        }
        for Item { acknowledgement, .. } in std::mem::take(&mut self.waiting) {
            let failed = acknowledgement.failed.total();
            if let Err(error) = acknowledgement.give_back(failed).await {
                tracing::debug!(%error, "a message could not be given back: the broker takes it back by itself");
            }
        }
    }
}
