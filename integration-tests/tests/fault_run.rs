//! The fault run in short: that it works, and finds nothing.

#[path = "../examples/fault_run/amqp.rs"]
mod amqp;
#[path = "../examples/fault_run/dapr.rs"]
mod dapr;
#[path = "../examples/fault_run/mqtt.rs"]
mod mqtt;
#[path = "../examples/fault_run/nats.rs"]
mod nats;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use purista_integration_tests::fault_run::{PartReport, Plan, faults, kills, restarts};

use tokio::sync::Semaphore;

use self::{amqp::Amqp, dapr::Dapr, mqtt::Mqtt, nats::Nats};

/// Short, as what a broken connection took with it is delivered again after this time only.
const ACK_WAIT: Duration = Duration::from_secs(1);

/// How many runs there are at once: what is measured is that they go on.
const AT_ONCE: u32 = 4;
static PLACES: Semaphore = Semaphore::const_new(AT_ONCE as usize);

fn check(part: &PartReport, times: usize) -> anyhow::Result<()> {
    ensure!(part.is_good(), "{part}");
    ensure!(part.recoveries.len() == times && part.acknowledged > 0 && part.calls_ok > 0, "{part}");
    ensure!(part.times.len() == 4 && part.times.values().all(|times_of| times_of.count == times), "{part}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_survives_kills() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = kills(&Nats::start(ACK_WAIT).await?, &plan).await?;
    check(&part, plan.cycles).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_survives_network_faults() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = faults(&Nats::start(ACK_WAIT).await?, &plan).await?;
    check(&part, plan.faults).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_survives_kills() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = kills(&Amqp::start(false).await?, &plan).await?;
    check(&part, plan.cycles).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_survives_network_faults() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = faults(&Amqp::start(false).await?, &plan).await?;
    check(&part, plan.faults).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_survives_kills_and_network_faults_with_the_topology_of_the_original() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random()).with_cycles(1).with_faults(3);
    let site = Amqp::start(true).await?;
    check(&kills(&site, &plan).await?, plan.cycles).with_context(|| format!("seed {}", plan.seed))?;
    check(&faults(&site, &plan).await?, plan.faults).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_survives_restarts() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = restarts(&Mqtt::start().await?, &plan).await?;
    check(&part, plan.cycles).with_context(|| format!("seed {}", plan.seed))
}

/// What the broker had taken over in the last moment before may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_works_again_after_kills() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = kills(&Mqtt::start().await?, &plan).await?;
    check(&part, plan.cycles).with_context(|| format!("seed {}", plan.seed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_survives_network_faults() -> anyhow::Result<()> {
    let _place = PLACES.acquire().await?;
    let plan = Plan::short(rand::random());
    let part = faults(&Mqtt::start().await?, &plan).await?;
    check(&part, plan.faults).with_context(|| format!("seed {}", plan.seed))
}

/// Each sidecar in its turn, and all at once. Alone, as it is four processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dapr_survives_kills_and_network_faults() -> anyhow::Result<()> {
    let _places = PLACES.acquire_many(AT_ONCE).await?;
    let plan = Plan::short(rand::random()).with_cycles(4);
    let site = Dapr::start().await?;
    check(&kills(&site, &plan).await?, plan.cycles).with_context(|| format!("seed {}", plan.seed))?;
    check(&faults(&site, &plan).await?, plan.faults).with_context(|| format!("seed {}", plan.seed))
}
