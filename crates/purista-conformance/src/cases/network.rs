//! The network between bridges and their broker breaks.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use purista_core::{Acknowledge, Capability, EventBridge, Filter, SubscriptionOptions};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    probe::{Collector, Latch, eventually, within},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
    traffic::{RECOVERY, Traffic},
};

pub(super) const CASES: &[Case] = &[
    case!("ACK-10", an_acknowledgement_is_lost, Capability::Reconnect, else "no connection that could break"),
    case!("NET-3", cuts_are_survived, Capability::Reconnect, else "no connection that could be lost"),
    case!("NET-4", a_silent_peer_is_noticed, Capability::Reconnect, else "no connection that could be lost"),
    case!("NET-9", flapping_leaves_nothing_behind, Capability::Reconnect, else "no connection that could flap"),
];

/// The catalogue asks for 50 cuts in the middle of a frame; each run has other ones.
async fn cuts_are_survived(mut stage: Stage) -> Outcome {
    const CUTS: usize = 12;
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    traffic.must_arrive(traffic.is_kept());
    let broker = stage.broker()?;
    let mut dice = StdRng::seed_from_u64(stage.seed());
    let cuts = (0..CUTS).map(|_| NetworkFault::CutAfter(dice.random_range(1..4_096)));
    for fault in [NetworkFault::Reset, NetworkFault::Close].into_iter().chain(cuts) {
        let attempts = broker.connection_attempts();
        broker.break_network(fault);
        let reconnect = || async {
            traffic.check()?;
            Ok(broker.connection_attempts() >= attempts + 2)
        };
        eventually("both bridges connect again", reconnect).await.with_context(|| format!("{fault:?}"))?;
        traffic.recovers().await.with_context(|| format!("{fault:?}"))?;
    }
    traffic.ends().await
}

async fn a_silent_peer_is_noticed(mut stage: Stage) -> Outcome {
    const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
    const TOLERANCE: Duration = Duration::from_secs(5);
    stage
        .own_broker(DeploymentOptions { keep_alive: Some(KEEP_ALIVE), ..DeploymentOptions::default() })
        .await?;
    let mut traffic = Traffic::begin(&stage).await?;
    traffic.must_arrive(traffic.is_kept());
    stage.broker()?.break_network(NetworkFault::Silence);
    traffic.is_noticed_within(2 * KEEP_ALIVE + TOLERANCE).await?;
    for bridge in traffic.bridges() {
        let health = bridge.health();
        ensure!(!health.is_ready() && !health.is_healthy(), "{health:?}");
    }
    stage.broker()?.mend_network();
    traffic.recovers().await?;
    traffic.ends().await
}

/// The catalogue asks for 50 flaps within 60 s; these are fewer and faster.
async fn flapping_leaves_nothing_behind(mut stage: Stage) -> Outcome {
    const FLAPS: usize = 25;
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    traffic.ends().await?;
    let calm = stage.deployment().inspect().await?;
    let tasks = lasting_tasks(&stage).await?;
    ensure!(calm.connections == 2, "two bridges have {calm:?}");

    traffic.must_arrive(traffic.is_kept());
    traffic.goes_on();
    let (broker, mut dice) = (stage.broker()?, StdRng::seed_from_u64(stage.seed()));
    for _ in 0..FLAPS {
        // As a network does, it comes and goes whatever the bridges are at.
        broker.break_network(NetworkFault::Down);
        sleep(Duration::from_millis(dice.random_range(0..150))).await;
        broker.mend_network();
        sleep(Duration::from_millis(dice.random_range(0..300))).await;
    }
    traffic.recovers().await?;
    traffic.ends().await?;

    let is_calm = || async {
        let now = stage.deployment().inspect().await?;
        Ok((now.connections, now.routes) == (calm.connections, calm.routes))
    };
    if let Err(error) = eventually("connections and routes are as before", is_calm).await {
        let now = stage.deployment().inspect().await?;
        return Err(error.context(format!("{calm:?} became {now:?}")));
    }
    let are_gone = || async { Ok(lasting_tasks(&stage).await? <= tasks) };
    let gone = eventually("the tasks are as many as before", are_gone).await;
    gone.with_context(|| format!("there were {tasks}"))
}

/// Counts the tasks but those of connections that come and go with what is sent. Both numbers change while they are read:
/// the median of some looks is right.
async fn lasting_tasks(stage: &Stage) -> anyhow::Result<usize> {
    const LOOKS: usize = 11;
    let mut looks = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let alive = Handle::current().metrics().num_alive_tasks();
        looks.push(alive.saturating_sub(stage.deployment().pooled_connections()?));
        sleep(Duration::from_millis(10)).await;
    }
    looks.sort_unstable();
    looks.get(LOOKS / 2).copied().context("no look")
}

async fn an_acknowledgement_is_lost(mut stage: Stage) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let (emitter, bridge) = (stage.bridge().await?, stage.new_bridge()?);
    let (latch, seen) = (Latch::new(), Collector::new());
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let registered = stage.subscribe(&*bridge, "subscriber", filter, options, latch.subscription(&seen));
    let registration = registered.await?;
    stage.begin().await?;
    bridge.start().await?;
    let sent = stage.emit(&*emitter, "event", "held").await?;
    latch.reached(1).await?;

    let broker = stage.broker()?;
    broker.break_network(NetworkFault::Silence);
    latch.open();
    eventually("it is handled", || async { Ok(bridge.stats().handled == 1) }).await?;
    // Its acknowledgement goes into the silence now, or waits there for a confirmation that does not come.
    let is_said = || async { Ok(bridge.stats().in_hand == 0) };
    let _waits_for_confirmation = within(Duration::from_millis(500), "it is acknowledged", is_said).await;
    broker.break_network(NetworkFault::Down);
    eventually("the cut is noticed", || async { Ok(!bridge.health().connected) }).await?;
    broker.mend_network();
    let is_well = || async { Ok(bridge.health().is_healthy()) };
    within(RECOVERY, "it is well again", is_well).await.with_context(|| format!("{:?}", bridge.health()))?;

    if registration.granted().acknowledge == Acknowledge::AfterHandler {
        match seen.at_least(2).await {
            Ok(()) => {
                let again = &seen.seen()[1];
                ensure!(*again.message == *sent, "another message came: {again:?}");
                let counts = bridge.capabilities().has(Capability::RedeliveryCount);
                ensure!(!counts || again.attempt == 2, "attempt {} is the second one", again.attempt);
            }
            // It was kept, and said once the connection was back. An adapter may do better than this row asks for.
            Err(error) => {
                let failed = bridge.stats().failed_acknowledgements;
                ensure!(
                    failed == 0,
                    "an acknowledgement failed, and its message did not come again: {error}"
                );
            }
        }
    }
    stage.emit_within(&*emitter, "event", "sentinel", PATIENCE).await?;
    seen.sentinel("\"sentinel\"").await?;
    let stats = bridge.stats();
    ensure!(stats.panicked == 0 && stats.failed_attempts == 0, "{stats:?}");
    Ok(())
}
