//! Start, registration and shutdown at the same time, in 100 orders of their steps each.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use purista_core::{
    BridgeState, Command, CommandHandler, Context, EmitOptions, ErrorKind, EventBridge as _, Filter,
    HandlerError, Payload, Registration, Result, Subscription, SubscriptionHandler,
    adapter::{Engine, async_trait},
};

use super::{
    event, ms,
    slow::{Slow, slow_bridge},
};

const SEEDS: u64 = 100;

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

fn assert_nothing_left(slow: &Slow, engine: &Engine<Slow>, seed: u64) {
    assert_eq!(engine.health().state, BridgeState::ShutDown, "seed {seed}");
    assert!(!engine.health().connected && !slow.0.connected.load(SeqCst), "still connected with seed {seed}");
    assert_eq!(slow.0.consumers.load(SeqCst), 0, "consumers left with seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn a_start_and_a_shutdown_leave_nothing_behind() {
    let mut started = 0;
    for seed in 0..SEEDS {
        let (slow, engine) = slow_bridge(seed);
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
        let (slow, engine) = slow_bridge(seed);
        let run = |first: &'static str| {
            let (slow, engine) = (slow.clone(), Arc::clone(&engine));
            async move {
                slow.step().await;
                let result = register(&engine, first).await;
                slow.step().await;
                if let Ok(registrations) = &result {
                    shut_down_at_worst(registrations[0].unregister().await);
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
        let (slow, engine) = slow_bridge(seed);
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

#[tokio::test(start_paused = true)]
async fn a_start_that_failed_leaves_nothing_behind_and_can_be_tried_again() {
    for seed in 0..SEEDS {
        let (slow, engine) = slow_bridge(seed);
        register(&engine, "One").await.unwrap();
        register(&engine, "Other").await.unwrap();
        slow.0.refusals.store(1, SeqCst);
        let (first, second) = tokio::join!(engine.start(), engine.start());
        // The one that came first failed, the other one tried again.
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Forbidden, "seed {seed}");
        second.unwrap();
        assert_eq!(slow.0.consumers.load(SeqCst), 4, "seed {seed}");
        assert!(engine.shutdown(ms(1_000)).await.is_clean(), "seed {seed}");
        assert_nothing_left(&slow, &engine, seed);

        let (slow, engine) = slow_bridge(seed);
        register(&engine, "One").await.unwrap();
        slow.0.refusals.store(1, SeqCst);
        engine.start().await.unwrap_err();
        assert!(!slow.0.connected.load(SeqCst), "still connected with seed {seed}");
        assert_eq!(
            (slow.0.consumers.load(SeqCst), engine.health().state),
            (0, BridgeState::Created),
            "seed {seed}"
        );
    }
}
