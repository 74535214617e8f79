//! What becomes of a message whose handler fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Capability, ErrorKind, EventBridge, Filter, HandlerError, Message, RetryPolicy, SubscriptionHandler,
    SubscriptionOptions,
};

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, Latch, eventually, on_event, within},
    profile::DeploymentOptions,
    stage::{LEASE, PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("ACK-2", fails_twice_then_succeeds, Capability::BoundedRetry, else refuses_retry),
    case!("ACK-3", fails_always, Capability::BoundedRetry, else refuses_retry),
    case!("ACK-4", attempts_are_apart, Capability::DelayedRetry, else refuses_delay),
    case!("ACK-5", a_dead_letter_tells_all, Capability::DeadLetter, else refuses_dead_letter),
    case!("ACK-6", poison_among_neighbours, Capability::BoundedRetry, else refuses_retry),
    case!("ACK-9", a_dead_letter_cannot_be_kept, Capability::DeadLetter, else refuses_dead_letter),
    case!("ACK-12", a_long_handler_runs_once, Capability::LongHandlers, else "no handler is known to be long"),
    case!("ACK-13", a_panic_is_a_failure),
];

/// Attempts with hardly any delay between them.
fn attempts(max: u32) -> SubscriptionOptions {
    let delay = Duration::from_millis(10);
    SubscriptionOptions::default()
        .with_retry(RetryPolicy::default().with_max_attempts(max).with_initial_delay(delay))
}

/// Collects each attempt and fails as long as `fails` says so.
fn failing(collector: &Arc<Collector>, fails: fn(u32, &Message) -> bool) -> Arc<dyn SubscriptionHandler> {
    let collector = Arc::clone(collector);
    on_event(move |context| {
        collector.record(&context);
        let fails = fails(context.attempt(), context.message());
        async move { if fails { Err(HandlerError::unhandled("on purpose")) } else { Ok(()) } }
    })
}

fn is_poison(message: &Message) -> bool {
    message.payload().is_some_and(|payload| payload.as_str() == "\"poison\"")
}

/// Registers a subscription that must be refused for the first of these capabilities that is not claimed, and looks that
/// nothing is left of it.
async fn refuses(stage: Stage, options: SubscriptionOptions, needs: &[Capability]) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let missing = needs.iter().copied().find(|capability| !bridge.capabilities().has(*capability));
    let missing = missing.context("everything is claimed")?;
    let before = stage.deployment().inspect().await?;
    let filter = Filter::event(stage.unique("event"));
    let refused = stage.subscribe(&*bridge, "subscriber", filter, options, Collector::new().handler()).await;
    let error = refused.err().context("an option that is not given was accepted")?;
    ensure!(error.kind() == ErrorKind::Unsupported(missing), "{error:?}");
    ensure!(stage.deployment().inspect().await? == before, "the refused registration left something");
    Ok(())
}

async fn refuses_retry(stage: Stage) -> Outcome {
    let at_once = RetryPolicy::default().with_initial_delay(Duration::ZERO);
    let options = SubscriptionOptions::default().with_retry(at_once);
    refuses(stage, options, &[Capability::BoundedRetry]).await
}

pub(super) async fn refuses_delay(stage: Stage) -> Outcome {
    refuses(stage, attempts(2), &[Capability::BoundedRetry, Capability::DelayedRetry]).await
}

async fn refuses_dead_letter(stage: Stage) -> Outcome {
    let options = SubscriptionOptions::default().with_dead_letter(true);
    refuses(stage, options, &[Capability::DeadLetter]).await
}

async fn subscribe(
    stage: &Stage,
    bridge: &dyn EventBridge,
    options: SubscriptionOptions,
    handler: Arc<dyn SubscriptionHandler>,
) -> Result<()> {
    let filter = Filter::event(stage.unique("event"));
    stage.subscribe(bridge, "subscriber", filter, options, handler).await.context("subscribe")?;
    stage.begin().await?;
    Ok(())
}

async fn fails_twice_then_succeeds(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let collector = Collector::new();
    let handler = failing(&collector, |attempt, _| attempt < 3);
    subscribe(&stage, &*bridge, attempts(5), handler).await?;
    let sent = stage.emit(&*bridge, "event", &"content").await?;
    eventually("it is handled", || async { Ok(bridge.stats().handled == 1) }).await?;
    let seen = collector.seen();
    let numbers: Vec<_> = seen.iter().map(|seen| seen.attempt).collect();
    ensure!(numbers == [1, 2, 3], "attempts {numbers:?}");
    ensure!(seen.iter().all(|seen| *seen.message == *sent), "an attempt got another message");
    ensure!(bridge.stats().failed_attempts == 2, "{:?}", bridge.stats());
    Ok(())
}

async fn fails_always(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let keeps_letters = bridge.capabilities().has(Capability::DeadLetter);
    let collector = Collector::new();
    let handler = failing(&collector, |_, message| is_poison(message));
    subscribe(&stage, &*bridge, attempts(5).with_max_concurrency(1), handler).await?;
    stage.emit(&*bridge, "event", &"poison").await?;
    eventually("it is given up", || async {
        let stats = bridge.stats();
        Ok(stats.dead_lettered + stats.dropped == 1)
    })
    .await?;
    stage.emit(&*bridge, "event", &"sentinel").await?;
    collector.sentinel("\"sentinel\"").await?;
    ensure!(collector.count() == 6, "{} runs of 5 attempts and a sentinel", collector.count());
    ensure!(bridge.stats().dead_lettered == u64::from(keeps_letters), "{:?}", bridge.stats());
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.len() == usize::from(keeps_letters), "{} dead letters", letters.len());
    Ok(())
}

async fn attempts_are_apart(stage: Stage) -> Outcome {
    let delay = Duration::from_millis(500);
    let policy = RetryPolicy::default().with_max_attempts(4).with_initial_delay(delay).with_max_delay(delay);
    let bridge = stage.bridge().await?;
    let collector = Collector::new();
    let handler = failing(&collector, |_, _| true);
    subscribe(&stage, &*bridge, SubscriptionOptions::default().with_retry(policy), handler).await?;
    stage.emit(&*bridge, "event", &"content").await?;
    collector.at_least(4).await?;
    let seen = collector.seen();
    for pair in seen.windows(2) {
        let gap = pair[1].at - pair[0].at;
        ensure!(
            gap >= delay && gap <= delay + Duration::from_secs(5),
            "attempts {gap:?} apart instead of {delay:?}"
        );
    }
    Ok(())
}

async fn a_dead_letter_tells_all(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let handler = failing(&Collector::new(), |_, _| true);
    subscribe(&stage, &*bridge, attempts(3), handler).await?;
    let sent = stage.emit(&*bridge, "event", &"12345678901234567890123").await?;
    eventually("there is a dead letter", || async { Ok(bridge.stats().dead_lettered == 1) }).await?;
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.len() == 1, "{} dead letters", letters.len());
    let letter = &letters[0];
    ensure!(letter.original == sent.encode(), "other bytes: {:?}", letter.original);
    ensure!(letter.message_id == sent.id, "another id: {letter:?}");
    ensure!(letter.subscriber == stage.address("subscriber"), "another subscriber: {letter:?}");
    ensure!(letter.attempts == 3, "attempts: {letter:?}");
    ensure!(letter.reason.contains("on purpose"), "reason: {letter:?}");
    ensure!(
        sent.timestamp <= letter.first_attempt_at && letter.first_attempt_at <= letter.last_attempt_at,
        "times: {letter:?}"
    );
    Ok(())
}

async fn poison_among_neighbours(stage: Stage) -> Outcome {
    const MESSAGES: u64 = 1_000;
    let bridge = stage.bridge().await?;
    let ledger = Arc::new(Ledger::default());
    let books = Arc::clone(&ledger);
    let handler = on_event(move |context| {
        let books = Arc::clone(&books);
        async move {
            let number: u64 = context.message().payload().map_or(Ok(0), |payload| payload.deserialize())?;
            if number == MESSAGES / 2 {
                return Err(HandlerError::unhandled("poison"));
            }
            books.handled(number);
            Ok(())
        }
    });
    let slow_retry = RetryPolicy::default().with_max_attempts(3).with_initial_delay(Duration::from_secs(10));
    let options = SubscriptionOptions::default().with_retry(slow_retry).with_max_concurrency(1);
    subscribe(&stage, &*bridge, options, handler).await?;
    for number in 1..=MESSAGES {
        stage.emit(&*bridge, "event", &number).await?;
        if number != MESSAGES / 2 {
            ledger.ok(number);
        }
    }
    eventually("the neighbours are handled", || async { Ok(bridge.stats().handled == MESSAGES - 1) }).await?;
    ensure!(bridge.stats().failed_attempts < 3, "the neighbours waited for all attempts of the poison");
    let report = ledger.balance();
    let is_in_order = report.out_of_order.is_empty() || !bridge.capabilities().has(Capability::SenderOrder);
    ensure!(report.is_exactly_once() && is_in_order, "{report:?}");
    Ok(())
}

async fn a_dead_letter_cannot_be_kept(stage: Stage) -> Outcome {
    if stage.deployment().refuses_when_full() {
        no_room_for_a_dead_letter(stage).await
    } else {
        no_broker_for_a_dead_letter(stage).await
    }
}

async fn no_room_for_a_dead_letter(mut stage: Stage) -> Outcome {
    stage
        .redeploy(DeploymentOptions { dead_letter_capacity: Some(1), ..DeploymentOptions::default() })
        .await?;
    let bridge = stage.bridge().await?;
    let handler = failing(&Collector::new(), |_, _| true);
    subscribe(&stage, &*bridge, attempts(1), handler).await?;
    for number in 0..2 {
        stage.emit(&*bridge, "event", &number).await?;
    }
    // A broker may refuse the second before it confirms the first.
    let is_full = || {
        let stats = bridge.stats();
        stats.dead_letter_failures > 0 && stats.dead_lettered == 1 && stats.in_hand == 1
    };
    let finds_none = eventually("the second finds no room, and is kept", || async { Ok(is_full()) }).await;
    finds_none.with_context(|| format!("{:?}", bridge.stats()))?;
    let first = stage.deployment().take_dead_letters().await?;
    eventually("there is room again", || async { Ok(bridge.stats().dead_lettered == 2) }).await?;
    let second = stage.deployment().take_dead_letters().await?;
    ensure!((first.len(), second.len()) == (1, 1), "{first:?} {second:?}");
    ensure!(first[0].message_id != second[0].message_id, "the same letter twice");
    Ok(())
}

/// Where there is always room, the broker is away.
async fn no_broker_for_a_dead_letter(mut stage: Stage) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let (bridge, broker, latch) = (stage.bridge().await?, stage.broker()?, Latch::new());
    let held = Arc::clone(&latch);
    let handler = on_event(move |_| {
        let held = Arc::clone(&held);
        async move {
            held.pass().await;
            Err(HandlerError::unhandled("on purpose"))
        }
    });
    subscribe(&stage, &*bridge, attempts(1), handler).await?;
    let sent = stage.emit(&*bridge, "event", &"content").await?;
    latch.reached(1).await?;
    broker.break_network(NetworkFault::Down);
    eventually("the outage is noticed", || async { Ok(!bridge.health().connected) }).await?;
    latch.open();
    eventually("it cannot be kept", || async { Ok(bridge.stats().dead_letter_failures > 0) }).await?;
    let stats = bridge.stats();
    ensure!(stats.dead_lettered == 0 && stats.in_hand == 1, "it was let go: {stats:?}");

    broker.mend_network();
    let is_kept = || async { Ok(bridge.stats().dead_lettered > 0 && bridge.stats().in_hand == 0) };
    eventually("it is kept when the broker is back", is_kept).await?;
    let letters = stage.deployment().take_dead_letters().await?;
    // The broker may deliver it again, and it fails again then.
    let are_it = letters.iter().all(|letter| letter.message_id == sent.id);
    ensure!(!letters.is_empty() && are_it, "{letters:?}");
    Ok(())
}

async fn a_long_handler_runs_once(mut stage: Stage) -> Outcome {
    // What extends it may come late on a busy machine.
    const LONG: Duration = LEASE.saturating_mul(2);
    stage.redeploy(DeploymentOptions { lease: Some(LONG), ..DeploymentOptions::default() }).await?;
    let bridge = stage.bridge().await?;
    let latch = Latch::new();
    let runs = Arc::new(AtomicU32::new(0));
    let (held, counted) = (Arc::clone(&latch), Arc::clone(&runs));
    let handler = on_event(move |_| {
        let held = Arc::clone(&held);
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let _released = tokio::time::timeout(2 * LONG + Duration::from_secs(1), held.pass()).await;
            Ok(())
        }
    });
    subscribe(&stage, &*bridge, SubscriptionOptions::default(), handler).await?;
    stage.emit(&*bridge, "event", &"content").await?;
    let is_handled = || async { Ok(bridge.stats().handled == 1) };
    within(2 * LONG + 2 * PATIENCE, "it is handled", is_handled).await?;
    ensure!(runs.load(Ordering::SeqCst) == 1, "{} runs", runs.load(Ordering::SeqCst));
    Ok(())
}

#[expect(clippy::panic, reason = "the panic is what is tried")]
async fn a_panic_is_a_failure(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let retries = bridge.capabilities().has(Capability::BoundedRetry);
    let collector = Collector::new();
    let seen = Arc::clone(&collector);
    let handler = on_event(move |context| {
        seen.record(&context);
        async move {
            if context.attempt() == 1 && is_poison(context.message()) {
                panic!("on purpose");
            }
            Ok(())
        }
    });
    let options = if retries { attempts(2) } else { SubscriptionOptions::default() };
    subscribe(&stage, &*bridge, options, handler).await?;
    stage.emit(&*bridge, "event", &"poison").await?;
    stage.emit(&*bridge, "event", &"next").await?;
    collector.sentinel("\"next\"").await?;
    eventually("both are done", || async {
        let stats = bridge.stats();
        Ok(stats.handled + stats.dropped == 2 && stats.in_hand == 0)
    })
    .await?;
    ensure!(bridge.stats().panicked == 1, "{:?}", bridge.stats());
    ensure!(bridge.stats().handled == 1 + u64::from(retries), "{:?}", bridge.stats());
    Ok(())
}
