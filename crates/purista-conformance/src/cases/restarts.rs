//! The broker's process ends, and comes back.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use purista_core::{
    BridgeEvent, Capability, CommandOptions, ErrorKind, EventBridge, Filter, SubscriptionOptions,
};
use tokio::time::{Instant, timeout};

use crate::{
    broker::{Broker, NetworkFault},
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{bookkeeper, echo, eventually, grows_to},
    profile::DeploymentOptions,
    stage::{OPERATION_TIMEOUT, PATIENCE, Stage},
    traffic::{RECOVERY, Traffic, tells},
};

pub(super) const CASES: &[Case] = &[
    case!("DUR-3", a_restart_loses_nothing, Capability::DurableSubscriptions, else "nothing outlives the process"),
    case!("DUR-4", a_kill_loses_nothing, Capability::SurvivesBrokerKill, else "nothing outlives the process"),
    case!("DUR-5", a_session_without_messages, Capability::DurableSubscriptions, else "nothing outlives the process"),
    case!("NET-1", a_restart_is_survived, Capability::Reconnect, else "no connection that could be lost"),
    case!("NET-2", a_kill_is_survived, Capability::Reconnect, else "no connection that could be lost"),
    case!("NET-6", a_lost_session_is_built_again, Capability::Reconnect, else "no session that could be lost"),
    case!("NET-8", a_broker_that_is_down, Capability::Reconnect, else "no broker that could be down"),
];

/// How the process of a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Terminated,
    Killed,
}

async fn end(broker: &dyn Broker, how: End) -> purista_core::Result<()> {
    match how {
        End::Terminated => broker.terminate().await,
        End::Killed => broker.kill().await,
    }
}

/// Starts a service with a durable subscription whose handler keeps the books.
async fn attach(stage: &Stage, ledger: &Arc<Ledger>) -> anyhow::Result<Arc<dyn EventBridge>> {
    attach_as(stage.new_bridge()?, stage, ledger).await
}

async fn attach_as(
    service: Arc<dyn EventBridge>,
    stage: &Stage,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<Arc<dyn EventBridge>> {
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let registered =
        stage.subscribe(&*service, "books", filter, options.with_durable(true), bookkeeper(ledger)).await?;
    service.start().await?;
    ensure!(registered.granted().durable, "not durable: {registered:?}");
    Ok(service)
}

async fn detach(service: &dyn EventBridge) -> Outcome {
    let report = service.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");
    Ok(())
}

/// Has a broker end and come back while events wait for a service that is away.
async fn events_outlive(mut stage: Stage, how: End) -> Outcome {
    const EVENTS: usize = 1_000;
    stage.own_broker(DeploymentOptions::default()).await?;
    let (emitter, ledger) = (stage.bridge().await?, Arc::new(Ledger::default()));
    stage.begin().await?;
    let service = attach(&stage, &ledger).await?;
    stage.emit_each(&*emitter, "event", 0..1).await?;
    grows_to(1, "events", || ledger.handled_count()).await?;
    detach(&*service).await?;

    stage.emit_each(&*emitter, "event", 1..EVENTS).await?;
    end(stage.broker()?, how).await?;
    stage.broker()?.start().await?;
    let _service = attach(&stage, &ledger).await?;
    // The one after them, from a bridge that has lived through it, shows that they are through.
    stage.emit_within(&*emitter, "event", &EVENTS, PATIENCE).await.context("the sentinel")?;
    (0..=EVENTS as u64).for_each(|number| ledger.ok(number));
    let all_came = || async { Ok(ledger.balance().lost.is_empty()) };
    let came = eventually("all events arrive", all_came).await;
    came.with_context(|| format!("{how:?}, lost: {:?}", ledger.balance().lost))?;
    // A broker may forget what it knew of acknowledgements.
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn a_restart_loses_nothing(stage: Stage) -> Outcome {
    events_outlive(stage, End::Terminated).await
}

async fn a_kill_loses_nothing(stage: Stage) -> Outcome {
    events_outlive(stage, End::Killed).await
}

async fn a_session_without_messages(mut stage: Stage) -> Outcome {
    const EVENTS: usize = 100;
    stage.own_broker(DeploymentOptions::default()).await?;
    let ledger = Arc::new(Ledger::default());
    detach(&*attach(&stage, &ledger).await?).await?;
    end(stage.broker()?, End::Terminated).await?;
    stage.broker()?.start().await?;

    // The instance comes back before there is another one.
    let (service, emitter) = (stage.new_bridge()?, stage.bridge().await?);
    stage.begin().await?;
    stage.emit_each(&*emitter, "event", 0..EVENTS).await?;
    let _service = attach_as(service, &stage, &ledger).await?;
    grows_to(EVENTS, "events", || ledger.handled_count()).await?;
    stage.emit_each(&*emitter, "event", EVENTS..EVENTS + 1).await?;
    grows_to(EVENTS + 1, "events", || ledger.handled_count()).await?;
    (0..=EVENTS as u64).for_each(|number| ledger.ok(number));
    ensure!(ledger.balance().is_exactly_once(), "{:?}", ledger.balance());
    Ok(())
}

/// Has a broker end and come back while events flow and calls are made. Long runs do so a hundred times.
async fn traffic_outlives(mut stage: Stage, how: End, rounds: usize) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    let survives =
        how == End::Terminated || traffic.service.capabilities().has(Capability::SurvivesBrokerKill);
    for round in 1..=rounds {
        traffic.must_arrive(traffic.is_kept() && survives);
        traffic.flows(100).await?;
        let mut events = traffic.bridges().map(EventBridge::events);
        end(stage.broker()?, how).await?;
        traffic.is_noticed_within(PATIENCE).await?;
        stage.broker()?.start().await?;
        traffic.recovers().await.with_context(|| format!("round {round}"))?;
        for events in &mut events {
            tells(events, "the loss", |event| matches!(event, BridgeEvent::Disconnected(_))).await?;
            tells(events, "the return", |event| *event == BridgeEvent::Connected).await?;
        }
    }
    traffic.ends().await
}

async fn a_restart_is_survived(stage: Stage) -> Outcome {
    traffic_outlives(stage, End::Terminated, 2).await
}

async fn a_kill_is_survived(stage: Stage) -> Outcome {
    traffic_outlives(stage, End::Killed, 3).await
}

async fn a_lost_session_is_built_again(mut stage: Stage) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    // Far more than come before all is well again: who goes on where it was before the wipe misses some of these.
    traffic.surges(5_000).await?;
    let mut events = traffic.service.events();
    let broker = stage.broker()?;
    broker.kill().await?;
    traffic.is_noticed_within(PATIENCE).await?;
    broker.wipe().await?;
    broker.start().await?;
    // What waited is gone; what is taken over from the moment that all is registered again is not.
    traffic.settles().await?;
    traffic.recovers().await?;
    if traffic.is_kept() {
        tells(&mut events, "the session", |event| *event == BridgeEvent::SessionLost).await?;
    }
    traffic.ends().await
}

/// Starts a bridge that cannot reach its broker, and looks that it fails in time and tries no faster than it should.
async fn fails_to_start(stage: &Stage, bridge: &dyn EventBridge) -> Outcome {
    let (attempts, began) = (stage.broker()?.connection_attempts(), Instant::now());
    let started = timeout(OPERATION_TIMEOUT + Duration::from_secs(5), bridge.start());
    let started = started.await.context("it still tries to start")?;
    let (error, took) = (started.err().context("it started without a broker")?, began.elapsed());
    ensure!(error.kind().is_temporary(), "{error:?}");
    let attempts = stage.broker()?.connection_attempts() - attempts;
    ensure!(attempts as u64 <= 2 + took.as_secs(), "{attempts} attempts within {took:?}");
    ensure!(!bridge.health().is_ready(), "{:?}", bridge.health());
    let emit = stage.emit_within(bridge, "event", &0, RECOVERY).await.err().map(|error| error.kind());
    ensure!(emit == Some(ErrorKind::NotStarted), "emit after a start that failed: {emit:?}");
    Ok(())
}

async fn a_broker_that_is_down(mut stage: Stage) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let broker = stage.broker()?;
    broker.kill().await?;
    fails_to_start(&stage, &*bridge).await.context("while the broker is down")?;
    broker.start().await?;
    // A peer that takes the connection and says nothing is down as well.
    broker.break_network(NetworkFault::Silence);
    fails_to_start(&stage, &*bridge).await.context("while the broker is silent")?;
    broker.mend_network();

    bridge.start().await.context("when the broker is there")?;
    stage.invoke(&*bridge, "echo", &0).await?;
    detach(&*bridge).await
}
