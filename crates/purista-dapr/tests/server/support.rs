use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use parking_lot::Mutex;
use purista_dapr::{DaprBridge, DaprBridgeBuilder};
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
};
use tokio::sync::Notify;

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
    DaprBridge::builder(sidecar.url())
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
        tokio::time::timeout(PATIENCE, there).await.with_context(|| format!("only {:?}", self.all()))
    }
}
