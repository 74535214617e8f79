//! The end of an instance, while others go on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Acknowledge, BridgeState, Capability, CommandOptions, Context, ErrorKind, EventBridge, Filter,
    HandlerError, InvokeError, Sharing, StatusCode, SubscriptionOptions,
};
use tokio::time::Instant;

use crate::{
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, Latch, begin_shutdown, echo, on_command, on_event},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("LIF-7", handlers_finish),
    case!("LIF-8", what_waits_is_handed_over, Capability::SharedSubscriptions, else "instances do not share messages"),
    case!("LIF-9", pending_calls_end),
    case!("LIF-10", stuck_handlers_are_handed_over, Capability::ManualAcknowledgement, else stuck_handlers_are_cancelled),
];

/// Uses the bridge once it is let through: what a handler may do to the end.
async fn last_words(stage: &Stage, latch: &Latch, context: &Context) -> Result<(), HandlerError> {
    latch.pass().await;
    let number: usize = context.invoke(stage.address("other"), &context.message().payload()).await?;
    context.emit(stage.unique("done"), &number).await?;
    Ok(())
}

async fn handlers_finish(stage: Stage) -> Outcome {
    const OF_EACH_KIND: usize = 25;
    let (leaving, other, successor) = (stage.bridge().await?, stage.new_bridge()?, stage.new_bridge()?);
    stage.serve(&*other, "other", CommandOptions::default(), echo()).await?;
    let done = stage.collect(&*other, "done", "done").await?;
    other.start().await?;
    let latch = Latch::new();
    let held = (stage.clone(), Arc::clone(&latch));
    let worker = on_command(move |context| {
        let (stage, latch) = held.clone();
        async move { last_words(&stage, &latch, &context).await.map(|()| None) }
    });
    stage.serve(&*leaving, "worker", CommandOptions::default(), worker).await?;
    let held = (stage.clone(), Arc::clone(&latch));
    let worker = on_event(move |context| {
        let (stage, latch) = held.clone();
        async move { last_words(&stage, &latch, &context).await }
    });
    let filter = Filter::event(stage.unique("work"));
    stage.subscribe(&*leaving, "worker", filter.clone(), SubscriptionOptions::default(), worker).await?;
    stage.emit_each(&*other, "work", 0..OF_EACH_KIND).await?;
    let calls: Vec<_> = (0..OF_EACH_KIND).map(|number| stage.calling(&other, "worker", number)).collect();
    latch.reached(2 * OF_EACH_KIND).await?;
    let again = stage.watch(&*successor, "worker", filter).await?;
    successor.start().await?;

    let shutdown = begin_shutdown(&leaving, Duration::from_secs(5)).await?;
    ensure!(leaving.health().state == BridgeState::Draining, "{:?}", leaving.health());
    ensure!(latch.waiting() == 2 * OF_EACH_KIND, "{} handlers are left", latch.waiting());
    latch.open();
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");
    for call in calls {
        call.await?.context("a call of a service that shuts down")?;
    }
    done.at_least(2 * OF_EACH_KIND).await?;
    ensure!(leaving.stats().failed_attempts == 0, "{:?}", leaving.stats());

    // What is handled does not come again.
    stage.emit(&*other, "work", "sentinel").await?;
    again.sentinel("\"sentinel\"").await?;
    ensure!(again.count() == 1, "the successor got {:?}", again.payloads());
    ensure!(done.count() == 2 * OF_EACH_KIND, "{} of {} are done", done.count(), 2 * OF_EACH_KIND);
    Ok(())
}

async fn what_waits_is_handed_over(stage: Stage) -> Outcome {
    const EVENTS: usize = 100;
    let (leaving, staying) = (stage.bridge().await?, stage.bridge().await?);
    let mut instances = Vec::new();
    for bridge in [&leaving, &staying] {
        let (latch, seen) = (Latch::new(), Collector::new());
        let options = SubscriptionOptions::default().with_max_concurrency(1).with_sharing(Sharing::Shared);
        let filter = Filter::event(stage.unique("work"));
        stage.subscribe(&**bridge, "worker", filter, options, latch.subscription(&seen)).await?;
        instances.push((latch, seen));
    }
    let [(held, left), (busy, taken_over)] = &instances[..] else { anyhow::bail!("two instances") };
    stage.emit_each(&*staying, "work", 0..EVENTS).await?;
    held.reached(1).await?;
    busy.reached(1).await?;

    // While one handler of the leaving instance runs, all others come to the instance that stays.
    let shutdown = begin_shutdown(&leaving, 2 * PATIENCE).await?;
    busy.open();
    taken_over.at_least(EVENTS - 1).await?;
    held.open();
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");
    stage.emit_each(&*staying, "work", EVENTS..EVENTS + 1).await?;
    taken_over.at_least(EVENTS).await?;

    let ledger = Ledger::default();
    (0..=EVENTS as u64).for_each(|number| ledger.ok(number));
    for seen in left.seen().iter().chain(&taken_over.seen()) {
        let number: Option<u64> =
            seen.message.payload().map(purista_core::Payload::deserialize).transpose()?;
        ledger.handled(number.context("an event without its number")?);
        ensure!(seen.attempt == 1, "attempt {} of {number:?}", seen.attempt);
    }
    ensure!(ledger.balance().is_exactly_once(), "{:?}", ledger.balance());
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.is_empty(), "{letters:?}");
    Ok(())
}

async fn pending_calls_end(stage: Stage) -> Outcome {
    let service = stage.bridge().await?;
    let (latch, executed) = (Latch::new(), Collector::new());
    stage.serve(&*service, "slow", CommandOptions::default(), latch.command(&executed)).await?;

    let caller = stage.bridge().await?;
    let call = stage.calling(&caller, "slow", "answered");
    latch.reached(1).await?;
    let shutdown = begin_shutdown(&caller, PATIENCE).await?;
    ensure!(caller.health().state == BridgeState::Draining, "{:?}", caller.health());
    latch.let_through(1);
    let response = call.await?.context("a call that was answered within the grace period")?;
    ensure!(response.payload().is_some_and(|payload| payload.get() == "\"answered\""), "{response:?}");
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");

    let caller = stage.bridge().await?;
    let call = stage.calling(&caller, "slow", "not answered");
    latch.reached(1).await?;
    let report = caller.shutdown(Duration::from_millis(100)).await;
    ensure!(report.failed_calls == 1, "{report:?}");
    let failed = call.await?.err().context("an answer from nowhere")?;
    ensure!(failed.bridge_kind() == Some(ErrorKind::ShutDown), "{failed:?}");
    ensure!(caller.stats().pending_calls == 0, "{:?}", caller.stats());
    Ok(())
}

/// Shuts an instance down whose handlers do not finish, and returns what its successor gets.
async fn outlive_the_grace_period(
    stage: &Stage,
    options: &SubscriptionOptions,
) -> Result<[Arc<Collector>; 2]> {
    const GRACE: Duration = Duration::from_millis(200);
    let (leaving, successor) = (stage.bridge().await?, stage.new_bridge()?);
    let (stuck, seen) = (Latch::new(), Collector::new());
    let held = Arc::clone(&stuck);
    let attentive = on_event(move |context| {
        let held = Arc::clone(&held);
        async move {
            tokio::select! {
                () = held.pass() => Ok(()),
                () = context.cancelled() => Err(HandlerError::unhandled("cancelled")),
            }
        }
    });
    stage.serve(&*leaving, "deaf", CommandOptions::default(), stuck.command(&seen)).await?;
    let collectors = [Collector::new(), Collector::new()];
    for ((target, handler), collector) in
        [("deaf", stuck.subscription(&seen)), ("attentive", attentive)].into_iter().zip(&collectors)
    {
        let filter = Filter::event(stage.unique(target));
        stage.subscribe(&*leaving, target, filter.clone(), options.clone(), handler).await?;
        stage.emit(&*leaving, target, "held").await?;
        stage.subscribe(&*successor, target, filter, options.clone(), collector.handler()).await?;
    }
    let caller = stage.bridge().await?;
    let call = stage.calling(&caller, "deaf", "held");
    stuck.reached(3).await?;
    successor.start().await?;

    let began = Instant::now();
    let report = leaving.shutdown(GRACE).await;
    let took = began.elapsed();
    ensure!(
        took >= GRACE && took <= GRACE + Duration::from_millis(250),
        "{GRACE:?} of grace became {took:?}"
    );
    ensure!(report.cancelled_handlers == 3 && stuck.waiting() == 0, "{report:?}, {} left", stuck.waiting());
    let stats = leaving.stats();
    ensure!(
        stats.failed_attempts == 0 && stats.dead_lettered == 0,
        "a cancellation was an attempt: {stats:?}"
    );
    let cancelled = call.await?.err().context("an answer of a cancelled handler")?;
    let is_told =
        matches!(cancelled, InvokeError::Unhandled(status) if status == StatusCode::SERVICE_UNAVAILABLE);
    ensure!(is_told, "{cancelled:?}");
    for target in ["deaf", "attentive"] {
        stage.emit(&*successor, target, "sentinel").await?;
    }
    Ok(collectors)
}

async fn stuck_handlers_are_cancelled(stage: Stage) -> Outcome {
    for collector in outlive_the_grace_period(&stage, &SubscriptionOptions::default()).await? {
        collector.sentinel("\"sentinel\"").await?;
    }
    Ok(())
}

async fn stuck_handlers_are_handed_over(stage: Stage) -> Outcome {
    let options = SubscriptionOptions::default()
        .with_max_concurrency(1)
        .with_sharing(Sharing::Shared)
        .with_acknowledge(Acknowledge::AfterHandler);
    for collector in outlive_the_grace_period(&stage, &options).await? {
        collector.at_least(2).await?;
        collector.sentinel("\"sentinel\"").await?;
        collector.sentinel("\"held\"").await?;
        let seen = collector.seen();
        ensure!(seen.len() == 2, "the successor got {:?}", collector.payloads());
        ensure!(seen.iter().all(|seen| seen.attempt == 1), "an attempt was counted: {seen:?}");
    }
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.is_empty(), "{letters:?}");
    Ok(())
}
