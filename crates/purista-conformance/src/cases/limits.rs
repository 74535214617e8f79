//! Bounds, and what happens at them.

use std::{future, ops::Range, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use purista_core::{CommandOptions, EventBridge, Filter, HandlerError, SubscriptionOptions};
use tokio::time::Instant;

use crate::{
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, Latch, bookkeeper, echo, eventually, grows_to, on_event},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("LIM-1", as_many_handlers_as_may),
    case!("LIM-2", a_slow_handler),
    case!("LIM-4", handlers_that_emit_much),
    case!("LIM-5", a_stuck_subscription),
];

async fn with_queues_of(stage: &mut Stage, messages: usize) -> Outcome {
    stage.redeploy(DeploymentOptions { queue_capacity: Some(messages), ..DeploymentOptions::default() }).await
}

async fn as_many_handlers_as_may(stage: Stage) -> Outcome {
    const MAY: usize = 10;
    const MESSAGES: usize = 1_000;
    let (bridge, caller) = (stage.new_bridge()?, stage.bridge().await?);
    let (events, handled) = (Latch::new(), Collector::new());
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let options = options.with_max_concurrency(MAY);
    stage.subscribe(&*bridge, "subscriber", filter, options, events.subscription(&handled)).await?;
    let (commands, executed) = (Latch::new(), Collector::new());
    let options = CommandOptions::default().with_max_concurrency(MAY);
    stage.serve(&*bridge, "command", options, commands.command(&executed)).await?;
    stage.begin().await?;
    bridge.start().await?;

    // They are answered one by one, after the events.
    let calling = |number| stage.calling_within(&caller, "command", number, 12 * PATIENCE);
    let calls: Vec<_> = (0..MESSAGES).map(calling).collect();
    stage.emit_each(&*caller, "event", 0..MESSAGES).await?;
    for (latch, came) in [(&events, &handled), (&commands, &executed)] {
        for done in 0..=(MESSAGES - MAY) {
            came.at_least(done + MAY).await?;
            latch.reached(MAY).await?;
            ensure!(came.count() == done + MAY, "{} handlers started, {done} finished", came.count());
            latch.let_through(1);
        }
        latch.open();
        ensure!(latch.most() == MAY, "{} handlers ran at once", latch.most());
    }
    for call in calls {
        call.await??;
    }
    eventually("all events are handled", || async { Ok(bridge.stats().handled == MESSAGES as u64) }).await
}

/// Emits a number with a kilobyte of text again and again until the broker takes it.
async fn emit_at_last(stage: &Stage, bridge: &dyn EventBridge, ledger: &Ledger, number: u64) -> Outcome {
    let content = (number, "x".repeat(1_024));
    loop {
        match stage.emit_within(bridge, "event", &content, Duration::from_secs(1)).await {
            Ok(_) => {
                ledger.ok(number);
                return Ok(());
            }
            Err(error) if error.kind().is_temporary() => ledger.unknown(number),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn a_slow_handler(mut stage: Stage) -> Outcome {
    const EVENTS: u64 = 20_000;
    const PLACES: usize = 100;
    const HANDLERS: usize = 32;
    with_queues_of(&mut stage, PLACES).await?;
    let bridge = stage.new_bridge()?;
    let (ledger, latch) = (Arc::new(Ledger::default()), Latch::new());
    let held = (Arc::clone(&ledger), Arc::clone(&latch));
    let slow = on_event(move |context| {
        let (ledger, latch) = held.clone();
        async move {
            latch.pass().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let content = context.message().payload().ok_or_else(|| HandlerError::unhandled("no content"))?;
            let (number, _): (u64, String) = content.deserialize()?;
            ledger.handled(number);
            Ok(())
        }
    });
    let options = SubscriptionOptions::default().with_max_concurrency(HANDLERS);
    stage.subscribe(&*bridge, "slow", Filter::event(stage.unique("event")), options, slow).await?;
    bridge.start().await?;

    let emits = (0..EVENTS).map(|number| emit_at_last(&stage, &*bridge, &ledger, number));
    let emits = async { stream::iter(emits).buffer_unordered(200).try_collect::<()>().await };
    let queued = || async { anyhow::Ok(stage.deployment().inspect().await?.queued) };
    let all_handled = || grows_to(EVENTS as usize, "events", || ledger.handled_count());
    if stage.deployment().refuses_when_full() {
        let fills_up = async {
            eventually("the queue is full", || async { Ok(queued().await? >= PLACES) }).await?;
            let taken = bridge.stats().emitted;
            ensure!(
                taken <= (PLACES + HANDLERS) as u64,
                "{taken} events taken for {HANDLERS} handlers and {PLACES} places"
            );
            latch.open();
            all_handled().await
        };
        let stays_bounded = async {
            loop {
                let queued = queued().await?;
                ensure!(queued <= PLACES, "{queued} events in {PLACES} places");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            emitted_and_handled = async { tokio::try_join!(emits, fills_up) } => { emitted_and_handled?; }
            too_many = stays_bounded => return too_many,
        }
    } else {
        emits.await?;
        let are_there = || async { Ok(queued().await? + HANDLERS >= EVENTS as usize) };
        eventually("the broker keeps what no handler has begun with", are_there).await?;
        latch.open();
        all_handled().await?;
    }
    eventually("nothing is lost", || async { Ok(ledger.balance().lost.is_empty()) }).await?;
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn handlers_that_emit_much(mut stage: Stage) -> Outcome {
    const MESSAGES: usize = 1_000;
    const OF_EACH: usize = 100;
    with_queues_of(&mut stage, 16).await?;
    let (bridge, ledger) = (stage.new_bridge()?, Arc::new(Ledger::default()));
    let leaf = stage.unique("leaf");
    let branches = on_event(move |context| {
        let leaf = leaf.clone();
        async move {
            let content = context.message().payload().ok_or_else(|| HandlerError::unhandled("no number"))?;
            let number: usize = content.deserialize()?;
            for leaf_number in number * OF_EACH..(number + 1) * OF_EACH {
                context.emit(leaf.clone(), &leaf_number).await?;
            }
            Ok(())
        }
    });
    for (name, handler) in [("branch", branches), ("leaf", bookkeeper(&ledger))] {
        let filter = Filter::event(stage.unique(name));
        stage.subscribe(&*bridge, name, filter, SubscriptionOptions::default(), handler).await?;
    }
    bridge.start().await?;
    // They wait for room as long as it takes to handle those before them.
    let branches = (0..MESSAGES).map(|number| {
        let (stage, bridge) = (&stage, &bridge);
        async move { stage.emit_within(&**bridge, "branch", &number, Duration::from_secs(60)).await }
    });
    stream::iter(branches).buffer_unordered(100).try_for_each(|_| future::ready(Ok(()))).await?;
    grows_to(MESSAGES * OF_EACH, "events", || ledger.handled_count()).await?;
    eventually("all are handled", || async { Ok(bridge.stats().in_hand == 0) }).await?;
    ensure!(bridge.stats().failed_attempts == 0, "{:?}", bridge.stats());
    (0..(MESSAGES * OF_EACH) as u64).for_each(|number| ledger.ok(number));
    ensure!(ledger.balance().is_exactly_once(), "{:?}", ledger.balance());
    Ok(())
}

/// Emits events one after the other, and returns how long the slowest but one in a hundred took to arrive.
async fn time_to_arrive(
    stage: &Stage,
    bridge: &dyn EventBridge,
    numbers: Range<usize>,
    collector: &Collector,
) -> Result<Duration> {
    let mut times = Vec::new();
    for number in numbers {
        let began = Instant::now();
        stage.emit(bridge, "event", &number).await?;
        collector.at_least(number + 1).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}

async fn a_stuck_subscription(stage: Stage) -> Outcome {
    const EVENTS: usize = 200;
    let bridge = stage.new_bridge()?;
    let filter = Filter::event(stage.unique("event"));
    let free = stage.watch(&*bridge, "free", filter.clone()).await?;
    let (latch, stuck) = (Latch::new(), Collector::new());
    let options = SubscriptionOptions::default().with_max_concurrency(1);
    stage.subscribe(&*bridge, "stuck", filter, options, latch.subscription(&stuck)).await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    bridge.start().await?;

    latch.let_through(EVENTS);
    let before = time_to_arrive(&stage, &*bridge, 0..EVENTS, &free).await?;
    let meanwhile = time_to_arrive(&stage, &*bridge, EVENTS..2 * EVENTS, &free).await?;
    let is_stuck = || async { Ok(stuck.count() == EVENTS + 1 && latch.waiting() == 1) };
    eventually("one more came to the stuck one", is_stuck).await?;
    let bound = 10 * before + Duration::from_millis(50);
    ensure!(meanwhile <= bound, "{before:?} became {meanwhile:?} while another subscription was stuck");
    stage.invoke(&*bridge, "echo", &0).await.context("a call meanwhile")?;
    latch.open();
    for collector in [free, stuck] {
        collector.at_least(2 * EVENTS).await?;
        let mut numbers = collector.payloads();
        numbers.sort_unstable();
        numbers.dedup();
        ensure!(numbers.len() == 2 * EVENTS && collector.count() == 2 * EVENTS, "{numbers:?}");
    }
    Ok(())
}
