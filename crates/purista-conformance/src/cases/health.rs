//! What a bridge says of itself.

use anyhow::{Context as _, ensure};
use purista_core::{BridgeEvent, BridgeState, EventBridge, Filter, SubscriptionOptions};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, begin_shutdown},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[case!("HLT-1", health_tells_the_truth)];

fn is(bridge: &dyn EventBridge, state: BridgeState, is_ready: bool, is_healthy: bool) -> Outcome {
    let health = bridge.health();
    ensure!(health.state == state, "{health:?} instead of {state:?}");
    ensure!(
        health.is_ready() == is_ready,
        "{health:?} is not {}",
        if is_ready { "ready" } else { "unready" }
    );
    ensure!(health.is_healthy() == is_healthy, "healthy is not {is_healthy}: {health:?}");
    ensure!(health.connected == is_healthy && health.not_consuming.is_empty(), "{health:?}");
    Ok(())
}

async fn health_tells_the_truth(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let mut events = bridge.events();
    let (latch, seen) = (Latch::new(), Collector::new());
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    stage.subscribe(&*bridge, "subscriber", filter, options, latch.subscription(&seen)).await?;
    is(&*bridge, BridgeState::Created, false, false)?;
    bridge.start().await?;
    is(&*bridge, BridgeState::Started, true, true)?;

    stage.emit(&*bridge, "event", "held").await?;
    latch.reached(1).await?;
    let shutdown = begin_shutdown(&bridge, PATIENCE).await?;
    is(&*bridge, BridgeState::Draining, false, true)?;
    latch.open();
    let report = shutdown.await?;
    ensure!(report.is_clean(), "{report:?}");
    is(&*bridge, BridgeState::ShutDown, false, false)?;

    for wanted in [BridgeEvent::Connected, BridgeEvent::Draining, BridgeEvent::ShutDown] {
        let next = async {
            loop {
                match events.next().await {
                    // That the connection ends at the shutdown may be told, or not.
                    Some(BridgeEvent::Disconnected(_)) if wanted == BridgeEvent::ShutDown => {}
                    event => break event,
                }
            }
        };
        let event = tokio::time::timeout(PATIENCE, next).await.with_context(|| format!("no {wanted:?}"))?;
        ensure!(event.as_ref() == Some(&wanted), "{event:?} instead of {wanted:?}");
    }
    let never_started = stage.new_bridge()?;
    never_started.shutdown(PATIENCE).await;
    is(&*never_started, BridgeState::ShutDown, false, false)
}
