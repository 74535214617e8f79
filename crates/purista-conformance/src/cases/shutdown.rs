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
    probe::{Collector, Latch, begin_shutdown, echo, grows_to, on_command, on_event},
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
    let [leaving, other, successor] = [stage.new_bridge()?, stage.new_bridge()?, stage.new_bridge()?];
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
    leaving.start().await?;
    stage.emit_each(&*other, "work", 0..OF_EACH_KIND).await?;
    let calls: Vec<_> = (0..OF_EACH_KIND).map(|number| stage.calling(&other, "worker", number)).collect();
    latch.reached(2 * OF_EACH_KIND).await?;
    let again = stage.watch(&*successor, "worker", filter).await?;
    successor.start().await?;

    let shutdown = begin_shutdown(&leaving, 2 * PATIENCE).await?;
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

/// Emits until the leaving one of two instances takes no more of it.
async fn takes_nothing_new(
    stage: &Stage,
    emitter: &dyn EventBridge,
    leaving: &Collector,
    staying: &Collector,
) -> Outcome {
    const AT_ONCE: usize = 20;
    for round in 0..100 {
        let before = leaving.count();
        stage.emit_each(emitter, "idle", round * AT_ONCE..(round + 1) * AT_ONCE).await?;
        grows_to((round + 1) * AT_ONCE, "events", || leaving.count() + staying.count()).await?;
        if leaving.count() == before {
            return Ok(());
        }
    }
    anyhow::bail!("it still takes work: {} of {}", leaving.count(), leaving.count() + staying.count())
}

async fn what_waits_is_handed_over(stage: Stage) -> Outcome {
    const EVENTS: usize = 100;
    let bridges = [stage.new_bridge()?, stage.new_bridge()?];
    let (latches, workers) = ([Latch::new(), Latch::new()], [Collector::new(), Collector::new()]);
    let idle = [Collector::new(), Collector::new()];
    for (instance, bridge) in bridges.iter().enumerate() {
        let options = SubscriptionOptions::default().with_max_concurrency(1).with_sharing(Sharing::Shared);
        for (target, handler) in
            [("work", latches[instance].subscription(&workers[instance])), ("idle", idle[instance].handler())]
        {
            let filter = Filter::event(stage.unique(target));
            stage.subscribe(&**bridge, target, filter, options.clone(), handler).await?;
        }
        bridge.start().await?;
    }
    let [leaving, staying] = bridges;
    stage.emit_each(&*staying, "work", 0..EVENTS).await?;
    latches[0].reached(1).await?;
    latches[1].reached(1).await?;

    // While one handler of the leaving instance runs, everything else comes to the instance that stays.
    let shutdown = begin_shutdown(&leaving, 2 * PATIENCE).await?;
    latches[1].open();
    workers[1].at_least(EVENTS - 1).await?;
    takes_nothing_new(&stage, &*staying, &idle[0], &idle[1]).await?;
    latches[0].open();
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");
    stage.emit_each(&*staying, "work", EVENTS..EVENTS + 1).await?;
    workers[1].at_least(EVENTS).await?;

    let ledger = Ledger::default();
    (0..=EVENTS as u64).for_each(|number| ledger.ok(number));
    for seen in workers.iter().flat_map(|worker| worker.seen()) {
        let number = seen.message.payload().context("an event without its number")?.deserialize()?;
        ledger.handled(number);
        ensure!(seen.attempt == 1, "attempt {} of {number}", seen.attempt);
    }
    ensure!(ledger.balance().is_exactly_once(), "{:?}", ledger.balance());
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.is_empty(), "{letters:?}");
    Ok(())
}

async fn pending_calls_end(stage: Stage) -> Outcome {
    let service = stage.new_bridge()?;
    let (latch, executed) = (Latch::new(), Collector::new());
    stage.serve(&*service, "slow", CommandOptions::default(), latch.command(&executed)).await?;
    service.start().await?;

    let caller = stage.bridge().await?;
    stage.begin().await?;
    let call = stage.calling(&caller, "slow", "answered");
    latch.reached(1).await?;
    let shutdown = begin_shutdown(&caller, PATIENCE).await?;
    ensure!(caller.health().state == BridgeState::Draining, "{:?}", caller.health());
    latch.let_through(1);
    let response = call.await?.context("a call that was answered within the grace period")?;
    ensure!(response.payload().is_some_and(|payload| payload.as_str() == "\"answered\""), "{response:?}");
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");

    let caller = stage.bridge().await?;
    stage.begin().await?;
    let call = stage.calling(&caller, "slow", "not answered");
    latch.reached(1).await?;
    let report = caller.shutdown(Duration::from_millis(100)).await;
    ensure!(report.failed_calls == 1, "{report:?}");
    let failed = call.await?.err().context("an answer from nowhere")?;
    ensure!(failed.bridge_kind() == Some(ErrorKind::ShutDown), "{failed:?}");
    ensure!(caller.stats().pending_calls == 0, "{:?}", caller.stats());
    Ok(())
}

/// Shuts an instance down whose handlers do not finish, and returns its successor and what that gets.
async fn outlive_the_grace_period(
    stage: &Stage,
    options: &SubscriptionOptions,
) -> Result<(Arc<dyn EventBridge>, [Arc<Collector>; 2])> {
    const GRACE: Duration = Duration::from_millis(200);
    let (leaving, successor, caller) = (stage.new_bridge()?, stage.new_bridge()?, stage.bridge().await?);
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
        stage.subscribe(&*successor, target, filter, options.clone(), collector.handler()).await?;
    }
    stage.begin().await?;
    leaving.start().await?;
    let call = stage.calling(&caller, "deaf", "held");
    stage.emit(&*caller, "deaf", "held").await?;
    stage.emit(&*caller, "attentive", "held").await?;
    stuck.reached(3).await?;
    successor.start().await?;

    let began = Instant::now();
    let report = leaving.shutdown(GRACE).await;
    let took = began.elapsed();
    ensure!(took >= GRACE && took <= GRACE + Duration::from_secs(3), "{GRACE:?} of grace became {took:?}");
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
    stage.emit(&*caller, "deaf", "sentinel").await?;
    stage.emit(&*caller, "attentive", "sentinel").await?;
    Ok((successor, collectors))
}

async fn stuck_handlers_are_cancelled(stage: Stage) -> Outcome {
    let (_successor, collectors) = outlive_the_grace_period(&stage, &SubscriptionOptions::default()).await?;
    for collector in collectors {
        collector.sentinel("\"sentinel\"").await?;
    }
    Ok(())
}

async fn stuck_handlers_are_handed_over(stage: Stage) -> Outcome {
    let options = SubscriptionOptions::default().with_acknowledge(Acknowledge::AfterHandler);
    // Only what is shared is the successor's concern.
    let handed_over = usize::from(stage.claims()?.has(Capability::SharedSubscriptions));
    let (_successor, collectors) = outlive_the_grace_period(&stage, &options.with_max_concurrency(1)).await?;
    for collector in collectors {
        collector.at_least(1 + handed_over).await?;
        collector.sentinel("\"sentinel\"").await?;
        let seen = collector.seen();
        ensure!(seen.len() == 1 + handed_over, "the successor got {:?}", collector.payloads());
        ensure!(seen.iter().all(|seen| seen.attempt == 1), "an attempt was counted: {seen:?}");
    }
    let letters = stage.deployment().take_dead_letters().await?;
    ensure!(letters.is_empty(), "{letters:?}");
    Ok(())
}
