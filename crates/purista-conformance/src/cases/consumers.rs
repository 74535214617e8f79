//! The broker takes a consumer away while the connection lives.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use purista_core::{BridgeEvent, Capability, EventBridge, Filter};

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    probe::within,
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
    traffic::{RECOVERY, Traffic, tells},
};

pub(super) const CASES: &[Case] = &[
    case!("HLT-2", health_names_the_consumer, Capability::DurableSubscriptions, else "nobody takes consumers away"),
    case!("NET-7", a_cancelled_consumer_comes_back, Capability::DurableSubscriptions, else "nobody cancels consumers"),
];

async fn a_cancelled_consumer_comes_back(mut stage: Stage) -> Outcome {
    const ROUNDS: usize = 3;
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    let (broker, books) = (stage.broker()?, stage.address("books"));
    let attempts = broker.connection_attempts();
    for round in 1..=ROUNDS {
        // What waited for the consumer may be lost with it.
        traffic.must_arrive(false);
        let mut events = traffic.service.events();
        broker.cancel_consumer(&books).await?;
        let (down, up) = (BridgeEvent::ConsumerDown(books.clone()), BridgeEvent::ConsumerUp(books.clone()));
        tells(&mut events, "the loss", |event| *event == down).await?;
        tells(&mut events, "the return", |event| *event == up).await?;
        traffic.recovers().await.with_context(|| format!("round {round}"))?;
        traffic.settles().await?;
        traffic.flows(100).await?;
    }
    let attempts = broker.connection_attempts() - attempts;
    // Beyond those that an operator has ended, its connections were well.
    let ended = if broker.consumers_have_connections() { ROUNDS } else { 0 };
    ensure!(attempts <= ended, "it connected again {attempts} times for {ended} connections that ended");
    traffic.ends().await
}

async fn health_names_the_consumer(mut stage: Stage) -> Outcome {
    // Whatever is done about the loss takes so long that the state between can be seen.
    const DELAY: Duration = Duration::from_millis(300);
    stage.own_broker(DeploymentOptions::default()).await?;
    let mut traffic = Traffic::begin(&stage).await?;
    let (broker, books) = (stage.broker()?, stage.address("books"));
    let other = stage.watch(&*traffic.service, "other", Filter::event(stage.unique("other"))).await?;
    let service = &traffic.service;
    broker.break_network(NetworkFault::Delay(DELAY));
    broker.cancel_consumer(&books).await?;
    let is_named = || async {
        let health = service.health();
        Ok(health.is_ready() && !health.is_healthy() && health.not_consuming == [books.clone()])
    };
    let named = within(RECOVERY, "health names the consumer that is gone, and no other", is_named).await;
    named.with_context(|| format!("{:?}", service.health()))?;
    stage.emit_within(&*traffic.caller, "other", "meanwhile", PATIENCE).await?;
    other.sentinel("\"meanwhile\"").await.context("a subscription whose consumer is there")?;

    broker.mend_network();
    traffic.recovers().await?;
    traffic.ends().await
}
