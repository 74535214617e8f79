//! What is left when all is done.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridge, Filter, HandledError, InvokeError, Sharing,
    SubscriptionOptions,
};
use tokio::{runtime::Handle, task::yield_now};

use crate::{
    case::{Case, Outcome, case},
    cases::durable::refuses,
    probe::{Collector, Latch, echo, eventually, on_command},
    profile::{BrokerReport, DeploymentOptions},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("LEK-1", calls_of_every_ending),
    case!("LEK-2", bridges_come_and_go),
    case!("LEK-3", nothing_is_left_at_the_broker, Capability::TransientSubscriptions, else refuses_transient_subscriptions),
];

/// How the calls of LEK-1 end.
#[derive(Clone, Copy)]
enum Ending {
    Answer,
    HandledError,
    TimeLimit,
    Dropped,
}

const ENDINGS: [Ending; 4] = [Ending::Answer, Ending::HandledError, Ending::TimeLimit, Ending::Dropped];

async fn call(stage: &Stage, bridge: &dyn EventBridge, ending: Ending, number: u32) -> Outcome {
    let short = Duration::from_millis(20);
    match ending {
        Ending::Answer => {
            stage.invoke(bridge, "echo", &number).await?;
        }
        Ending::HandledError => {
            let error = stage.invoke(bridge, "refuses", &number).await.err().context("an answer")?;
            ensure!(matches!(error, InvokeError::Handled(_)), "{error:?}");
        }
        Ending::TimeLimit => {
            let error =
                stage.invoke_within(bridge, "silent", &number, short).await.err().context("an answer")?;
            ensure!(error.bridge_kind() == Some(ErrorKind::Timeout), "{error:?}");
        }
        Ending::Dropped => {
            let dropped = async {
                for _ in 0..(number % 8) {
                    yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _ended_before = stage.invoke_within(bridge, "silent", &number, short) => {}
                () = dropped => {}
            }
        }
    }
    Ok(())
}

async fn calls_of_every_ending(mut stage: Stage) -> Outcome {
    const ROUNDS: u32 = 25;
    const AT_ONCE: usize = 400;
    // A call that is not freed takes the place of one of a later round.
    stage
        .redeploy(DeploymentOptions { max_pending_calls: Some(AT_ONCE), ..DeploymentOptions::default() })
        .await?;
    let (bridge, service) = (stage.bridge().await?, stage.new_bridge()?);
    let refuses = on_command(|_| async { Err(HandledError::bad_request("on purpose").into()) });
    let silent = Latch::new();
    let handlers = [("echo", echo()), ("refuses", refuses), ("silent", silent.command(&Collector::new()))];
    for (target, handler) in handlers {
        stage.serve(&*service, target, CommandOptions::default(), handler).await?;
    }
    stage.begin().await?;
    service.start().await?;
    for round in 0..ROUNDS {
        let endings = ENDINGS.into_iter().cycle().take(AT_ONCE).zip(round..);
        let calls = endings.map(|(ending, number)| call(&stage, &*bridge, ending, number));
        try_join_all(calls).await.with_context(|| format!("round {round}"))?;
        ensure!(bridge.stats().pending_calls == 0, "after round {round}: {:?}", bridge.stats());
        silent.let_through(silent.waiting());
    }
    silent.open();
    let each = u64::from(ROUNDS) * AT_ONCE as u64 / ENDINGS.len() as u64;
    let stats = bridge.stats();
    ensure!(stats.answered == 2 * each && stats.timed_out >= each, "{stats:?}");
    eventually("nothing is in hand", || async { Ok(service.stats().in_hand == 0) }).await?;
    eventually("nothing waits", || async { Ok(stage.deployment().inspect().await?.queued == 0) }).await
}

/// Has a bridge with one of everything come, work and go.
async fn come_and_go(stage: &Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let (collector, filter) = (Collector::new(), Filter::event(stage.unique("event")));
    let durable = !bridge.capabilities().has(Capability::TransientSubscriptions);
    let options = SubscriptionOptions::default().with_durable(durable);
    stage.subscribe(&*bridge, "subscriber", filter, options, collector.handler()).await?;
    bridge.start().await?;
    stage.invoke(&*bridge, "echo", &0).await?;
    stage.emit(&*bridge, "event", &0).await?;
    collector.at_least(1).await?;
    let report = bridge.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");
    Ok(())
}

async fn bridges_come_and_go(stage: Stage) -> Outcome {
    let runtime = Handle::current().metrics();
    // What is created once for all bridges is there after the first one.
    come_and_go(&stage).await?;
    let alive = runtime.num_alive_tasks();
    for round in 0..200 {
        come_and_go(&stage).await.with_context(|| format!("round {round}"))?;
    }
    let are_gone = || async { Ok(runtime.num_alive_tasks() <= alive) };
    eventually(&format!("{alive} tasks instead of {}", runtime.num_alive_tasks()), are_gone).await
}

async fn refuses_transient_subscriptions(stage: Stage) -> Outcome {
    refuses(&stage, Capability::TransientSubscriptions).await
}

async fn nothing_is_left_at_the_broker(stage: Stage) -> Outcome {
    let inspect = || async { anyhow::Ok(stage.deployment().inspect().await?) };
    ensure!(inspect().await? == BrokerReport::default(), "before the first bridge: {:?}", inspect().await?);
    let (emitter, bridge) = (stage.bridge().await?, stage.new_bridge()?);
    let (latch, seen) = (Latch::new(), Collector::new());
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let transient = SubscriptionOptions::default().with_durable(false).with_max_concurrency(1);
    for (target, sharing, capability) in [
        ("shared", Sharing::Shared, Capability::SharedSubscriptions),
        ("broadcast", Sharing::Broadcast, Capability::BroadcastSubscriptions),
    ] {
        if bridge.capabilities().has(capability) {
            let (filter, options) =
                (Filter::event(stage.unique("event")), transient.clone().with_sharing(sharing));
            stage.subscribe(&*bridge, target, filter, options, latch.subscription(&seen)).await?;
        }
    }
    stage.begin().await?;
    bridge.start().await?;
    stage.invoke(&*emitter, "echo", &0).await?;
    // Events that nobody will have handled: where they stay with their bridge, one may keep back the others.
    let events = if stage.deployment().events_cross_bridges() { 10 } else { 1 };
    stage.emit_each(&**stage.emitter(&emitter, &bridge), "event", 0..events).await?;
    latch.reached(1).await?;
    let full = inspect().await?;
    ensure!(full.connections == 2 && full.routes > 0, "while two bridges are there: {full:?}");

    let report = bridge.shutdown(Duration::ZERO).await;
    emitter.shutdown(PATIENCE).await;
    let is_empty = || async { Ok(inspect().await? == BrokerReport::default()) };
    if let Err(error) = eventually("nothing is left", is_empty).await {
        let left = inspect().await?;
        return Err(error.context(format!("{full:?} became {left:?}; {report:?}")));
    }
    Ok(())
}
