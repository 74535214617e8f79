//! A transport of these tests.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use purista_core::{
    Capabilities, Capability, Command, Error, ErrorKind, Message, Result, Subscription,
    adapter::{Consumer, DeadLetter, Engine, EngineConfig, Intake, Link, Publish, Stop, Transport},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::yield_now, time::Instant};

/// A broker that takes its time: each step of it lets others go first, as often as chance has it.
#[derive(Clone, Debug)]
pub(crate) struct Slow(pub(crate) Arc<State>);

#[derive(Debug)]
pub(crate) struct State {
    chance: Mutex<StdRng>,
    pub(crate) connected: AtomicBool,
    pub(crate) connects: AtomicUsize,
    pub(crate) consumers: AtomicUsize,
    /// How many registrations it still refuses.
    pub(crate) refusals: AtomicUsize,
    pub(crate) connect_hangs: AtomicBool,
    pub(crate) publish_hangs: AtomicBool,
    pub(crate) publishing: AtomicUsize,
    /// Where it delivers to, by registration.
    pub(crate) intakes: Mutex<Vec<Intake<Slow>>>,
}

impl Slow {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(State {
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            connected: AtomicBool::new(false),
            connects: AtomicUsize::new(0),
            consumers: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            connect_hangs: AtomicBool::new(false),
            publish_hangs: AtomicBool::new(false),
            publishing: AtomicUsize::new(0),
            intakes: Mutex::default(),
        }))
    }

    pub(crate) async fn step(&self) {
        let others = self.0.chance.lock().random_range(0..6);
        for _ in 0..others {
            yield_now().await;
        }
    }

    async fn consume(&self, intake: Intake<Self>) -> Result<Consuming> {
        assert!(self.0.connected.load(SeqCst), "consumes without a connection");
        self.step().await;
        let refusing = |refusals: usize| refusals.checked_sub(1);
        if self.0.refusals.fetch_update(SeqCst, SeqCst, refusing).is_ok() {
            return Err(Error::new(ErrorKind::Forbidden, "register"));
        }
        self.0.intakes.lock().push(intake);
        self.0.consumers.fetch_add(1, SeqCst);
        Ok(Consuming { broker: self.clone(), closed: AtomicBool::new(false) })
    }
}

#[derive(Debug)]
pub(crate) struct Consuming {
    broker: Slow,
    closed: AtomicBool,
}

impl Consumer for Consuming {
    async fn stop(&self, _why: Stop) {
        self.broker.step().await;
    }

    async fn close(&self) -> Result<()> {
        self.broker.step().await;
        assert!(!self.closed.swap(true, SeqCst), "closed twice");
        self.broker.0.consumers.fetch_sub(1, SeqCst);
        Ok(())
    }
}

impl Transport for Slow {
    type Consumer = Consuming;
    type ReplyTo = ();

    const NAME: &'static str = "slow";

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
            .with(Capability::RegisterAfterStart)
            .with(Capability::TransientSubscriptions)
            .with(Capability::SharedSubscriptions)
            .with(Capability::ManualAcknowledgement)
            .with(Capability::BoundedRetry)
            .with(Capability::DelayedRetry)
            .with(Capability::Unregister)
    }

    async fn connect(&self, _link: Link) -> Result<()> {
        self.step().await;
        if self.0.connect_hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.0.connected.store(true, SeqCst);
        self.0.connects.fetch_add(1, SeqCst);
        self.step().await;
        Ok(())
    }

    async fn publish(&self, _message: Arc<Message>, _publish: Publish) -> Result<()> {
        self.0.publishing.fetch_add(1, SeqCst);
        if self.0.publish_hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.step().await;
        Ok(())
    }

    async fn request(&self, _command: Arc<Message>, _deadline: Instant) -> Result<()> {
        self.step().await;
        Ok(())
    }

    async fn respond(&self, _response: Arc<Message>, (): ()) -> Result<()> {
        Ok(())
    }

    async fn consume_command(&self, _: &Command, intake: Intake<Self>) -> Result<Consuming> {
        self.consume(intake).await
    }

    async fn consume_subscription(&self, _: &Subscription, intake: Intake<Self>) -> Result<Consuming> {
        self.consume(intake).await
    }

    async fn keep_dead_letter(&self, _letter: DeadLetter) -> Result<()> {
        Ok(())
    }

    async fn disconnect(&self) -> Result<()> {
        self.step().await;
        self.0.connected.store(false, SeqCst);
        Ok(())
    }
}

/// An engine over a slow broker.
pub(crate) fn slow_bridge(seed: u64) -> (Slow, Arc<Engine<Slow>>) {
    let slow = Slow::new(seed);
    let engine = Engine::new(slow.clone(), EngineConfig::default()).unwrap();
    (slow, engine)
}
