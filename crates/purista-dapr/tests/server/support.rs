use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use parking_lot::Mutex;
use purista_core::{BridgeEvent, BridgeEvents};
use purista_dapr::{DaprBridge, DaprBridgeBuilder};
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
};
use tokio::{sync::Notify, time::timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A place where sidecars find each other.
pub(crate) struct Place {
    registry: Registry,
    component: Component,
}

impl Place {
    pub(crate) fn new(component: Component) -> anyhow::Result<Self> {
        Ok(Self { registry: Registry::new()?, component })
    }

    pub(crate) fn config(&self, app_id: &str) -> anyhow::Result<SidecarConfig> {
        Ok(SidecarConfig::new(app_id, free_port()?, self.component.clone(), &self.registry))
    }

    pub(crate) async fn sidecar(&self, app_id: &str) -> anyhow::Result<Sidecar> {
        Sidecar::start(self.config(app_id)?).await
    }
}

pub(crate) fn beside(sidecar: &Sidecar) -> DaprBridgeBuilder {
    // On a busy machine it can take a sidecar long to reach its app.
    DaprBridge::builder(sidecar.url()).connect_timeout(PATIENCE).operation_timeout(2 * PATIENCE)
}

/// What a handler was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<(Mutex<Vec<String>>, Notify)>);

impl Seen {
    pub(crate) fn push(&self, what: impl Into<String>) {
        self.0.0.lock().push(what.into());
        self.0.1.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().clone()
    }

    /// Waits until there are so many.
    pub(crate) async fn at_least(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let there = async {
            loop {
                let more = self.0.1.notified();
                let all = self.all();
                if all.len() >= count {
                    return all;
                }
                more.await;
            }
        };
        timeout(PATIENCE, there).await.with_context(|| format!("only {:?}", self.all()))
    }
}

async fn told<T>(events: &mut BridgeEvents, what: fn(BridgeEvent) -> Option<T>) -> anyhow::Result<T> {
    let told = timeout(PATIENCE, async {
        loop {
            if let Some(told) = what(events.next().await.context("the bridge is gone")?) {
                return Ok(told);
            }
        }
    });
    told.await.context("it is not told")?
}

/// Waits until the bridge tells that it is connected.
pub(crate) async fn connected(events: &mut BridgeEvents) -> anyhow::Result<()> {
    told(events, |event| (event == BridgeEvent::Connected).then_some(())).await
}

/// Waits until the bridge tells that it is cut off; returns the reason.
pub(crate) async fn disconnected(events: &mut BridgeEvents) -> anyhow::Result<String> {
    let reason = |event| match event {
        BridgeEvent::Disconnected(reason) => Some(reason),
        _ => None,
    };
    told(events, reason).await
}
