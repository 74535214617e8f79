use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_nats::{Subject, jetstream::consumer::DeliverPolicy};
use purista_core::{
    Result,
    adapter::{Backoff, ConsumerTask, Intake, Restore, Stop, StopSignal},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, interval, sleep_until},
};

use crate::{
    connection::Connection,
    consuming::PartHealth,
    durable::DurableConsumer,
    pull_deliveries::Item,
    pull_requests::{PULL_HEARTBEAT, Refusal},
    pull_state::PullState,
    refusals::Publisher,
    streams::created,
    subscription::Subscription,
    transport::NatsTransport,
};

/// How often one looks whether the consumer is as it has to be.
const LOOK: Duration = Duration::from_secs(10);

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

/// What consumes; what it asks the server for and what it does with what comes is beside.
pub(crate) struct Task {
    pub(crate) state: Arc<PullState>,
    pub(crate) intake: Intake<NatsTransport>,
    pub(crate) inbox: Subject,
    pub(crate) subscription: Subscription,
    /// Shows the other instances that this one is there.
    pub(crate) member: Subscription,
    pub(crate) waiting: VecDeque<Item>,
    /// How many messages came again and have their attempts counted.
    pub(crate) counting: usize,
    pub(crate) counted: mpsc::Sender<Item>,
    pub(crate) recounted: mpsc::Receiver<Item>,
    /// How many messages the server may still send.
    pub(crate) asked_for: usize,
    /// When the server was last heard of.
    pub(crate) heard: Instant,
    /// When it was last asked.
    pub(crate) pulled: Instant,
    pub(crate) capacity: usize,
    /// How many messages the server lets us ask for at once.
    pub(crate) max_batch: usize,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) backoff: Backoff,
    pub(crate) looking: Option<JoinHandle<()>>,
    pub(crate) next_look: Instant,
    pub(crate) look_backoff: Backoff,
    /// Whether the server said that the consumer is gone, and nothing came since.
    pub(crate) was_gone: bool,
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

    /// Looks soon, as something is wrong.
    pub(crate) fn look_soon(&mut self) {
        let soon = Instant::now() + self.look_backoff.next_delay();
        self.next_look = self.next_look.min(soon);
    }
}
