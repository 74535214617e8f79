//! From the first registration to the last.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridge, Filter, Registration, ShutdownReport,
    SubscriptionOptions,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::yield_now, time::Instant};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, echo, eventually},
    profile::BrokerReport,
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("LIF-1", out_of_season),
    case!("LIF-2", before_and_after_the_start, Capability::RegisterAfterStart, else refuses_after_the_start),
    case!("LIF-3", live_when_registered, Capability::RegisterAfterStart, else live_when_started),
    case!("LIF-4", start_and_shutdown_in_any_order),
    case!("LIF-5", the_same_address_twice),
    case!("LIF-6", nothing_comes_after_unregistering, Capability::Unregister, else refuses_to_unregister),
];

/// Emits and invokes, and looks that both are refused at once.
async fn is_refused(stage: &Stage, bridge: &dyn EventBridge, wanted: ErrorKind) -> Outcome {
    let began = Instant::now();
    let emit = stage.emit_within(bridge, "event", &0, PATIENCE).await.err().map(|error| error.kind());
    let invoke = stage.invoke(bridge, "echo", &0).await.err().and_then(|error| error.bridge_kind());
    let took = began.elapsed();
    ensure!((emit, invoke) == (Some(wanted), Some(wanted)), "{emit:?} and {invoke:?} instead of {wanted:?}");
    ensure!(took < Duration::from_secs(2), "the refusals took {took:?}");
    ensure!(!bridge.health().is_ready(), "{:?}", bridge.health());
    Ok(())
}

async fn out_of_season(stage: Stage) -> Outcome {
    for starts in [true, false] {
        let bridge = stage.new_bridge()?;
        let early = stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
        is_refused(&stage, &*bridge, ErrorKind::NotStarted).await?;
        if starts {
            bridge.start().await?;
            stage.invoke(&*bridge, "echo", &0).await?;
        }
        let report = bridge.shutdown(PATIENCE).await;
        ensure!(report.is_clean(), "{report:?}");
        is_refused(&stage, &*bridge, ErrorKind::ShutDown).await?;
        let filter = Filter::event(stage.unique("event"));
        let refused = [
            bridge.start().await.err(),
            stage.serve(&*bridge, "late", CommandOptions::default(), echo()).await.err(),
            stage
                .subscribe(
                    &*bridge,
                    "late",
                    filter,
                    SubscriptionOptions::default(),
                    Collector::new().handler(),
                )
                .await
                .err(),
        ];
        let refused = refused.map(|error| error.map(|error| error.kind()));
        ensure!(
            refused == [Some(ErrorKind::ShutDown); 3],
            "start and registrations after a shutdown: {refused:?}"
        );
        if bridge.capabilities().has(Capability::Unregister) {
            early.unregister().await.context("unregister after a shutdown")?;
        }
    }
    Ok(())
}

async fn before_and_after_the_start(stage: Stage) -> Outcome {
    let (emitter, bridge) = (stage.bridge().await?, stage.new_bridge()?);
    stage.begin().await?;
    let mut collectors = Vec::new();
    for season in ["early", "late"] {
        if season == "late" {
            bridge.start().await?;
        }
        stage.serve(&*bridge, season, CommandOptions::default(), echo()).await?;
        collectors.push(stage.collect(&*bridge, season, "event").await?);
    }
    let sent = stage.emit(&*emitter, "event", "content").await?;
    for (season, collector) in ["early", "late"].into_iter().zip(collectors) {
        stage.invoke(&*emitter, season, &0).await.with_context(|| format!("the {season} command"))?;
        collector.at_least(1).await.with_context(|| format!("the {season} subscription"))?;
        ensure!(*collector.messages()[0] == *sent, "the {season} subscription got another message");
    }
    Ok(())
}

async fn refuses_after_the_start(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "early", CommandOptions::default(), echo()).await?;
    let collector = stage.collect(&*bridge, "early", "event").await?;
    bridge.start().await?;
    let before = stage.deployment().routes().await?;
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let refused = [
        stage.serve(&*bridge, "late", CommandOptions::default(), echo()).await.err(),
        stage.subscribe(&*bridge, "late", filter, options, Collector::new().handler()).await.err(),
    ];
    for refused in refused {
        let error = refused.context("registered after the start, which is not claimed")?;
        ensure!(error.kind() == ErrorKind::Unsupported(Capability::RegisterAfterStart), "{error:?}");
    }
    let after = stage.deployment().routes().await?;
    ensure!(after == before, "{before} routes became {after}");
    stage.invoke(&*bridge, "early", &0).await?;
    stage.emit(&*bridge, "event", &0).await?;
    collector.at_least(1).await
}

async fn live_when_registered(stage: Stage) -> Outcome {
    let (service, sender) = (stage.bridge().await?, stage.bridge().await?);
    stage.begin().await?;
    let mut collectors = Vec::new();
    for round in 0..200 {
        let name = format!("round {round}");
        collectors.push(stage.collect(&*service, &name, &name).await?);
        stage.emit(&*sender, &name, &round).await?;
        stage.serve(&*service, &name, CommandOptions::default(), echo()).await?;
        stage.invoke(&*sender, &name, &round).await.with_context(|| format!("the command of {name}"))?;
    }
    for (round, collector) in collectors.into_iter().enumerate() {
        collector.at_least(1).await.with_context(|| format!("the subscription of round {round}"))?;
    }
    Ok(())
}

async fn live_when_started(stage: Stage) -> Outcome {
    let sender = stage.bridge().await?;
    stage.begin().await?;
    for round in 0..20 {
        let name = format!("round {round}");
        let service = stage.new_bridge()?;
        let collector = stage.collect(&*service, &name, &name).await?;
        stage.serve(&*service, &name, CommandOptions::default(), echo()).await?;
        service.start().await?;
        stage.emit(&*sender, &name, &round).await?;
        stage.invoke(&*sender, &name, &round).await.with_context(|| format!("the command of {name}"))?;
        collector.at_least(1).await.with_context(|| format!("the subscription of {name}"))?;
        service.shutdown(PATIENCE).await;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    /// A start whose future is dropped half-way, or before.
    AbandonedStart(u32),
    Shutdown,
}

/// Takes some steps at once, each after so many yields.
async fn play(stage: &Stage, plan: &[(u32, Step)]) -> Outcome {
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let steps = plan.iter().map(|&(pause, step)| tokio::spawn(take(Arc::clone(&bridge), pause, step)));
    let mut reports = Vec::new();
    for step in steps.collect::<Vec<_>>() {
        reports.extend(step.await??);
    }
    if reports.is_empty() {
        bridge.start().await.context("a start after all others")?;
        ensure!(bridge.health().is_ready(), "{:?}", bridge.health());
        stage.invoke(&*bridge, "echo", &0).await?;
    }
    reports.push(bridge.shutdown(PATIENCE).await);
    ensure!(reports.iter().all(ShutdownReport::is_clean), "{reports:?}");
    let again = bridge.start().await.err().map(|error| error.kind());
    ensure!(again == Some(ErrorKind::ShutDown), "a start after the shutdown: {again:?}");
    Ok(())
}

async fn take(bridge: Arc<dyn EventBridge>, pause: u32, step: Step) -> Result<Option<ShutdownReport>> {
    yields(pause).await;
    let started = match step {
        Step::Shutdown => return Ok(Some(bridge.shutdown(PATIENCE).await)),
        Step::Start => bridge.start().await,
        Step::AbandonedStart(after) => tokio::select! {
            biased;
            started = bridge.start() => started,
            () = yields(after) => Ok(()),
        },
    };
    match started {
        Err(error) if error.kind() != ErrorKind::ShutDown => Err(error.into()),
        _ => Ok(None),
    }
}

async fn yields(times: u32) {
    for _ in 0..times {
        yield_now().await;
    }
}

async fn start_and_shutdown_in_any_order(stage: Stage) -> Outcome {
    let mut dice = StdRng::seed_from_u64(stage.seed());
    for round in 0..100 {
        let plan: Vec<_> = (0..dice.random_range(2..=6))
            .map(|_| {
                let step = match dice.random_range(0..5) {
                    0 | 1 => Step::Start,
                    2 => Step::AbandonedStart(dice.random_range(0..4)),
                    _ => Step::Shutdown,
                };
                (dice.random_range(0..8), step)
            })
            .collect();
        let told = || format!("round {round}: {plan:?}");
        tokio::time::timeout(4 * PATIENCE, play(&stage, &plan))
            .await
            .with_context(told)?
            .with_context(told)?;
    }
    let is_empty = || async { Ok(stage.deployment().inspect().await? == BrokerReport::default()) };
    eventually("nothing is left at the broker", is_empty).await
}

async fn the_same_address_twice(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "same", CommandOptions::default(), echo()).await?;
    let collector = stage.watch(&*bridge, "same", Filter::event(stage.unique("event"))).await?;
    for season in ["before the start", "after the start"] {
        let latch = Latch::new();
        let second = Collector::new();
        let filter = Filter::event(stage.unique("another event"));
        let refused = [
            stage.serve(&*bridge, "same", CommandOptions::default(), latch.command(&second)).await.err(),
            stage
                .subscribe(&*bridge, "same", filter, SubscriptionOptions::default(), second.handler())
                .await
                .err(),
        ];
        for refused in refused {
            let error = refused.with_context(|| format!("registered twice {season}"))?;
            ensure!(error.kind() == ErrorKind::AlreadyRegistered, "{season}: {error:?}");
        }
        bridge.start().await?;
        stage.invoke(&*bridge, "same", &0).await.context("the first command")?;
        stage.emit(&*bridge, "event", season).await?;
        collector.sentinel(&format!("\"{season}\"")).await?;
        ensure!(second.count() == 0, "{season}, the second one got {:?}", second.payloads());
    }
    ensure!(collector.count() == 2, "the first subscription got {:?}", collector.payloads());
    Ok(())
}

fn transient() -> SubscriptionOptions {
    SubscriptionOptions::default().with_durable(false)
}

async fn nothing_comes_after_unregistering(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let witness = stage.collect(&*bridge, "witness", "event").await?;
    let (latch, events, commands) = (Latch::new(), Collector::new(), Collector::new());
    let (filter, options) = (Filter::event(stage.unique("event")), transient().with_max_concurrency(1));
    let subscription =
        stage.subscribe(&*bridge, "leaving", filter, options, latch.subscription(&events)).await?;
    let command =
        stage.serve(&*bridge, "leaving", CommandOptions::default(), latch.command(&commands)).await?;
    bridge.start().await?;
    let before = stage.deployment().routes().await?;
    stage.emit(&*bridge, "event", "running").await?;
    let call = stage.calling(&bridge, "leaving", "running");
    latch.reached(2).await?;
    stage.emit_each(&*bridge, "event", 0..5).await?;
    witness.at_least(6).await?;

    // It returns while handlers run and events wait, and no handler starts after that.
    for registration in [&subscription, &command] {
        let unregister = tokio::time::timeout(PATIENCE, registration.unregister());
        unregister.await.context("unregister waits for a handler")??;
    }
    stage.emit_each(&*bridge, "event", 5..15).await?;
    witness.at_least(16).await?;
    let tells = bridge.capabilities().has(Capability::NoResponder);
    let limit = if tells { PATIENCE } else { Duration::from_millis(500) };
    let nobody = stage.invoke_within(&*bridge, "leaving", &0, limit).await;
    let nobody = nobody.err().and_then(|error| error.bridge_kind());
    let wanted = if tells { ErrorKind::NoHandler } else { ErrorKind::Timeout };
    ensure!(nobody == Some(wanted), "a call of the unregistered command ended with {nobody:?}");
    ensure!(
        (events.count(), commands.count()) == (1, 1),
        "{:?} {:?}",
        events.payloads(),
        commands.payloads()
    );

    // What runs finishes.
    latch.open();
    call.await??;
    eventually("what ran is handled", || async { Ok(bridge.stats().handled == 1 + 16) }).await?;
    let are_gone = || async { Ok(stage.deployment().routes().await? < before) };
    eventually("the routes are gone", are_gone).await?;
    if bridge.capabilities().has(Capability::RegisterAfterStart) {
        registers_again(&stage, &*bridge, [subscription, command]).await?;
    }
    ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    Ok(())
}

/// Registers what was unregistered, and looks that nothing of before is left of it.
async fn registers_again(stage: &Stage, bridge: &dyn EventBridge, before: [Registration; 2]) -> Outcome {
    let collector = Collector::new();
    let (filter, options) = (Filter::event(stage.unique("event")), transient().with_max_concurrency(1));
    stage.subscribe(bridge, "leaving", filter, options, collector.handler()).await?;
    stage.serve(bridge, "leaving", CommandOptions::default(), echo()).await?;
    for registration in before {
        registration.unregister().await.context("unregister a second time")?;
    }
    stage.emit(bridge, "event", "sentinel").await?;
    collector.sentinel("\"sentinel\"").await?;
    ensure!(collector.count() == 1, "after registering again: {:?}", collector.payloads());
    stage.invoke(bridge, "leaving", &0).await?;
    Ok(())
}

async fn refuses_to_unregister(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let command = stage.serve(&*bridge, "staying", CommandOptions::default(), echo()).await?;
    bridge.start().await?;
    let error = command.unregister().await.err().context("unregistered, which is not claimed")?;
    ensure!(error.kind() == ErrorKind::Unsupported(Capability::Unregister), "{error:?}");
    stage.invoke(&*bridge, "staying", &0).await.context("the command after the refusal")?;
    Ok(())
}
