//! Registrations that stop consuming while their bridge stays connected.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use purista_core::{Capability, CommandOptions, EventBridge, ServiceAddress};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use crate::{
    broker::{Login, Security, Stoppage},
    case::{Case, Outcome, case},
    cases::access::secured,
    probe::{Collector, echo},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("HLT-3", stoppages_are_told, Capability::Reconnect, else "nobody takes consumers or rights away"),
];

/// Within which time a stoppage shows in the health, or is over, and within which time it is over once its cause is.
const BOUND: Duration = Duration::from_secs(30);

/// How long a registration has to consume for the stoppage to count as over: longer than what was granted before it lasts.
const STEADY: Duration = Duration::from_secs(2);

async fn stoppages_are_told(stage: Stage) -> Outcome {
    // With credentials, as rights can be withdrawn from somebody only.
    let stage = secured(&stage, Security::Login(Login::Right)).await?;
    let stoppages = stage.broker()?.stoppages().to_vec();
    ensure!(!stoppages.is_empty(), "the broker of this profile names no way to stop a registration");
    let service = Service::begin(&stage).await?;
    for stoppage in stoppages {
        let name = stoppage.name();
        service.is_told(&*stoppage).await.with_context(|| format!("when {name}"))?;
        service.recovers().await.with_context(|| format!("after {name}"))?;
    }
    Ok(())
}

/// A service with a command and a subscription, and somebody who uses both.
struct Service {
    stage: Stage,
    service: Arc<dyn EventBridge>,
    caller: Arc<dyn EventBridge>,
    seen: Arc<Collector>,
}

impl Service {
    async fn begin(stage: &Stage) -> anyhow::Result<Self> {
        let (caller, service) = (stage.bridge().await?, stage.new_bridge()?);
        stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
        let seen = stage.collect(&*service, "subscriber", "event").await?;
        stage.begin().await?;
        service.start().await.context("start")?;
        let service = Self { stage: stage.clone(), service, caller, seen };
        service.recovers().await.context("before anything happened")?;
        Ok(service)
    }

    /// Has it happen, and waits until the health tells it or both registrations consume all the same. To be healthy and
    /// not to consume for longer than the bound is what this row forbids.
    async fn is_told(&self, stoppage: &dyn Stoppage) -> Outcome {
        let stage = &self.stage;
        let (command, subscriber) = (stage.address("echo"), stage.address("subscriber"));
        stoppage.begin(&command, &subscriber).await.context("begin")?;
        let told = self.until_told_or_consuming(&[command, subscriber]).await;
        stoppage.end().await.context("end")?;
        told
    }

    async fn until_told_or_consuming(&self, registrations: &[ServiceAddress]) -> Outcome {
        let deadline = Instant::now() + BOUND;
        let (mut poll, mut consuming_since) = (poll(), None);
        loop {
            poll.tick().await;
            let health = self.service.health();
            ensure!(
                health.not_consuming.iter().all(|named| registrations.contains(named)),
                "it names what is no registration: {health:?}"
            );
            if !health.is_healthy() {
                return Ok(());
            }
            if !self.consumes().await {
                consuming_since = None;
            } else if consuming_since.get_or_insert_with(Instant::now).elapsed() >= STEADY {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it does not consume, and says: {:?}", self.service.health());
        }
    }

    /// Returns whether a call is answered and an event is handled that were sent just now.
    async fn consumes(&self) -> bool {
        const LIMIT: Duration = Duration::from_millis(500);
        let stage = &self.stage;
        if stage.invoke_within(&*self.caller, "echo", &0, LIMIT).await.is_err() {
            return false;
        }
        let emitter = stage.emitter(&self.caller, &self.service);
        let Ok(event) = stage.emit_within(&**emitter, "event", &0, LIMIT).await else { return false };
        timeout(LIMIT, self.seen.message(event.message_type(), &event.id))
            .await
            .is_ok_and(|came| came.is_ok())
    }

    /// Waits until both registrations consume, and the health says so.
    async fn recovers(&self) -> Outcome {
        let (deadline, mut poll) = (Instant::now() + BOUND, poll());
        loop {
            poll.tick().await;
            if self.consumes().await && self.service.health().is_healthy() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("it does not consume again within {BOUND:?}: {:?}", self.service.health());
            }
        }
    }
}

fn poll() -> Interval {
    let mut poll = interval(Duration::from_millis(50));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll
}
