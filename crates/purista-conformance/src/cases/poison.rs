//! Many messages at once whose handlers fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use purista_core::{
    Capability, EventBridge, Filter, HandlerError, RetryPolicy, SubscriptionHandler, SubscriptionOptions,
};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, eventually, grows_to, on_event},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
};

use super::acknowledge::refuses_delay;

pub(super) const CASES: &[Case] =
    &[case!("ACK-14", many_fail_at_once, Capability::DelayedRetry, else refuses_delay)];

/// More than any window that is usual: 20 of a stock Mosquitto, 1,000 of a JetStream consumer, 1,024.
const POISON: usize = 1_200;

/// So few wait at the broker at once that it keeps all of them, however small its queues are.
const AT_ONCE: usize = 100;

/// Longer than the trial.
const DELAY: Duration = Duration::from_secs(600);

/// A subscriber of this trial, and what it has seen.
struct Subscriber {
    /// Of the subscriber, and of its event.
    name: &'static str,
    failures: Arc<AtomicUsize>,
    others: Arc<Collector>,
}

impl Subscriber {
    async fn subscribe(
        stage: &Stage,
        bridge: &dyn EventBridge,
        name: &'static str,
        is_durable: bool,
    ) -> anyhow::Result<Self> {
        let subscriber = Self { name, failures: Arc::default(), others: Collector::new() };
        let retry = RetryPolicy::default().with_initial_delay(DELAY).with_max_delay(DELAY);
        let options =
            SubscriptionOptions::default().with_retry(retry).with_max_concurrency(1).with_durable(is_durable);
        let filter = Filter::event(stage.unique(name));
        stage.subscribe(bridge, name, filter, options, subscriber.handler()).await.context(name)?;
        Ok(subscriber)
    }

    /// Fails at numbers.
    fn handler(&self) -> Arc<dyn SubscriptionHandler> {
        let (failures, others) = (Arc::clone(&self.failures), Arc::clone(&self.others));
        on_event(move |context| {
            let is_poison =
                context.message().payload().is_some_and(|payload| payload.deserialize::<u64>().is_ok());
            if is_poison {
                failures.fetch_add(1, Ordering::SeqCst);
            } else {
                others.record(&context);
            }
            async move { if is_poison { Err(HandlerError::unhandled("on purpose")) } else { Ok(()) } }
        })
    }

    async fn gets_others_while_many_fail(&self, stage: &Stage, bridge: &dyn EventBridge) -> Outcome {
        let failures = || self.failures.load(Ordering::SeqCst);
        for begin in (0..POISON).step_by(AT_ONCE) {
            stage.emit_each(bridge, self.name, begin..begin + AT_ONCE).await?;
            grows_to(begin + AT_ONCE, "messages that have failed", failures).await?;
        }
        stage.emit(bridge, self.name, &"sentinel").await?;
        self.others.sentinel("\"sentinel\"").await.context(self.name)?;
        ensure!(failures() == POISON, "{} failures of {POISON}", failures());
        Ok(())
    }
}

async fn many_fail_at_once(mut stage: Stage) -> Outcome {
    stage.redeploy(DeploymentOptions { smallest_windows: true, ..DeploymentOptions::default() }).await?;
    let bridge = stage.bridge().await?;
    let mut subscribers = Vec::new();
    for (capability, name, is_durable) in [
        (Capability::TransientSubscriptions, "transient", false),
        (Capability::DurableSubscriptions, "durable", true),
    ] {
        if bridge.capabilities().has(capability) {
            subscribers.push(Subscriber::subscribe(&stage, &*bridge, name, is_durable).await?);
        }
    }
    stage.begin().await?;
    for subscriber in &subscribers {
        subscriber.gets_others_while_many_fail(&stage, &*bridge).await?;
    }
    let waiting = POISON * subscribers.len();
    eventually("all but the poison is done", || async { Ok(bridge.stats().in_hand == waiting) }).await?;

    let began = Instant::now();
    let report = bridge.shutdown(DELAY).await;
    let took = began.elapsed();
    ensure!(report.is_clean() && took < PATIENCE, "{report:?} after {took:?}");
    let released = bridge.stats().released;
    ensure!(released == waiting as u64, "{released} of {waiting} were given back");
    Ok(())
}
