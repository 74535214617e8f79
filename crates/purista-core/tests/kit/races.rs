//! Start, registration and shutdown at the same time, in 100 orders of their steps each.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use purista_core::{
    BridgeState, Capabilities, Capability, Command, CommandHandler, Context, EmitOptions, ErrorKind,
    EventBridge as _, Filter, Granted, HandlerError, Message, Payload, Registration, Result, Subscription,
    SubscriptionHandler,
    adapter::{Consumer, DeadLetter, Engine, EngineConfig, Intake, Link, Publish, Transport, async_trait},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::yield_now, time::Instant};

use super::{event, ms};

const SEEDS: u64 = 100;

/// A broker that takes its time: each step of it lets others go first, as often as chance has it.
#[derive(Clone, Debug)]
struct Slow(Arc<State>);

#[derive(Debug)]
struct State {
    chance: Mutex<StdRng>,
    connected: AtomicBool,
    connects: AtomicUsize,
    consumers: AtomicUsize,
}

impl Slow {
    fn new(seed: u64) -> Self {
        Self(Arc::new(State {
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            connected: AtomicBool::new(false),
            connects: AtomicUsize::new(0),
            consumers: AtomicUsize::new(0),
        }))
    }

    async fn step(&self) {
        let others = self.0.chance.lock().random_range(0..6);
        for _ in 0..others {
            yield_now().await;
        }
    }

    async fn consume(&self) -> Result<Consuming> {
        assert!(self.0.connected.load(SeqCst), "consumes without a connection");
        self.step().await;
        self.0.consumers.fetch_add(1, SeqCst);
        Ok(Consuming { broker: self.clone(), closed: AtomicBool::new(false) })
    }
}

#[derive(Debug)]
struct Consuming {
    broker: Slow,
    closed: AtomicBool,
}

impl Consumer for Consuming {
    async fn stop(&self) {
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
            .with(Capability::SharedSubscriptions)
            .with(Capability::Unregister)
    }

    async fn connect(&self, _link: Link) -> Result<()> {
        self.step().await;
        self.0.connected.store(true, SeqCst);
        self.0.connects.fetch_add(1, SeqCst);
        self.step().await;
        Ok(())
    }

    async fn publish(&self, _message: Arc<Message>, _publish: Publish) -> Result<()> {
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

    async fn consume_command(&self, _: &Command, _: &Granted, _: Intake<Self>) -> Result<Consuming> {
        self.consume().await
    }

    async fn consume_subscription(
        &self,
        _: &Subscription,
        _: &Granted,
        _: Intake<Self>,
    ) -> Result<Consuming> {
        self.consume().await
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

/// Does nothing, which is not the point here.
struct Idle;

#[async_trait]
impl CommandHandler for Idle {
    async fn handle(&self, _context: Context) -> Result<Option<Payload>, HandlerError> {
        Ok(None)
    }
}

#[async_trait]
impl SubscriptionHandler for Idle {
    async fn handle(&self, _context: Context) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Registers a command and a subscription.
async fn register(engine: &Engine<Slow>, name: &'static str) -> Result<[Registration; 2]> {
    let command = Command::new((name, "1", "work"));
    let subscription = Subscription::new((name, "1", "onHappened"), Filter::any());
    Ok([
        engine.register_command(command, Arc::new(Idle)).await?,
        engine.register_subscription(subscription, Arc::new(Idle)).await?,
    ])
}

/// Success, or the refusal that a shutdown explains.
fn shut_down_at_worst<T>(result: Result<T>) -> bool {
    match result.map_err(|error| error.kind()) {
        Ok(_) => true,
        Err(ErrorKind::ShutDown) => false,
        Err(kind) => panic!("{kind:?}"),
    }
}

fn bridge(seed: u64) -> (Slow, Arc<Engine<Slow>>) {
    let slow = Slow::new(seed);
    let engine = Engine::new(slow.clone(), EngineConfig::default()).expect("defaults are valid");
    (slow, engine)
}

fn assert_nothing_left(slow: &Slow, engine: &Engine<Slow>, seed: u64) {
    assert_eq!(engine.health().state, BridgeState::ShutDown, "seed {seed}");
    assert!(!engine.health().connected && !slow.0.connected.load(SeqCst), "still connected with seed {seed}");
    assert_eq!(slow.0.consumers.load(SeqCst), 0, "consumers left with seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn a_start_and_a_shutdown_leave_nothing_behind() {
    let mut started = 0;
    for seed in 0..SEEDS {
        let (slow, engine) = bridge(seed);
        register(&engine, "Early").await.unwrap();
        let start = async {
            slow.step().await;
            engine.start().await
        };
        let shut_down = async {
            // Early or late within the start.
            for _ in 0..seed % 10 {
                slow.step().await;
            }
            engine.shutdown(ms(1_000)).await
        };
        let (start, report) = tokio::join!(start, shut_down);
        started += usize::from(shut_down_at_worst(start));
        assert!(report.is_clean(), "{report:?} with seed {seed}");
        assert_nothing_left(&slow, &engine, seed);
        let again = engine.start().await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::ShutDown, "seed {seed}");
    }
    assert!((10..90).contains(&started), "{started} of {SEEDS} started: the orders are too much alike");
}

#[tokio::test(start_paused = true)]
async fn registrations_amid_start_and_shutdown_leave_nothing_behind() {
    let mut registered = 0;
    for seed in 0..SEEDS {
        let (slow, engine) = bridge(seed);
        let run = |first: &'static str| {
            let (slow, engine) = (slow.clone(), Arc::clone(&engine));
            async move {
                slow.step().await;
                let result = register(&engine, first).await;
                slow.step().await;
                if let Ok(registrations) = &result {
                    registrations[0].unregister().await.expect("unregisters");
                }
                result
            }
        };
        let start = async {
            slow.step().await;
            engine.start().await
        };
        let shut_down = async {
            for _ in 0..seed % 16 {
                slow.step().await;
            }
            engine.shutdown(ms(1_000)).await
        };
        let emit = async {
            slow.step().await;
            engine.emit_message(event(1), &EmitOptions::default()).await.map_err(|error| error.kind())
        };
        let (one, other, start, report, emitted) =
            tokio::join!(run("One"), run("Other"), start, shut_down, emit);
        registered += usize::from(shut_down_at_worst(one)) + usize::from(shut_down_at_worst(other));
        shut_down_at_worst(start);
        assert!(matches!(emitted, Ok(_) | Err(ErrorKind::ShutDown | ErrorKind::NotStarted)), "{emitted:?}");
        assert!(report.is_clean(), "{report:?} with seed {seed}");
        // What was unregistered is closed in the background.
        tokio::time::sleep(ms(1)).await;
        assert_nothing_left(&slow, &engine, seed);
    }
    assert!((20..200).contains(&registered), "{registered}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_dropped_can_be_tried_again() {
    let mut dropped = 0;
    for seed in 0..SEEDS {
        let (slow, engine) = bridge(seed);
        register(&engine, "Early").await.unwrap();
        let patience = async {
            for _ in 0..seed % 8 {
                slow.step().await;
            }
        };
        tokio::select! {
            biased;
            result = engine.start() => result.unwrap(),
            () = patience => dropped += 1,
        }
        let (first, second) = tokio::join!(engine.start(), engine.start());
        first.and(second).unwrap();
        assert!(engine.health().is_ready(), "seed {seed}");
        assert_eq!(slow.0.consumers.load(SeqCst), 2, "seed {seed}");
        assert!(slow.0.connects.load(SeqCst) <= 2, "seed {seed}");
        assert!(engine.shutdown(ms(1_000)).await.is_clean(), "seed {seed}");
        assert_nothing_left(&slow, &engine, seed);
    }
    assert!((10..90).contains(&dropped), "{dropped}");
}
