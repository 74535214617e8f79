//! Sidecars that find each other.

use purista_integration_tests::{
    bench::Stage,
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
};

/// The app of those who send.
pub(crate) const SENDER: &str = "app-sender-v1";

/// The app where the bridge finds the service of all.
pub(crate) const OURS: &str = "app-bench-v1";

/// The raw app. Its id is as long as that of ours.
pub(crate) const RAW: &str = "raw-bench-v1";

/// How many messages a sidecar takes at once: as many as a subscription handles by default.
pub(crate) const PREFETCH: u8 = 64;

/// Where sidecars find each other, and what they have as their pub/sub component.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    registry: Registry,
    component: Component,
}

/// How an app and its sidecar reach each other.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// The sidecar's API.
    pub(crate) url: String,
    /// Where the app listens.
    pub(crate) app_port: u16,
}

impl Place {
    /// Creates one for a scenario: killed sidecars are found for some seconds more, and those of the next one are others.
    pub(crate) fn new(component: Component) -> anyhow::Result<Self> {
        Ok(Self { registry: Registry::new()?, component })
    }

    /// Starts the sidecar of an app, which ends with the stage.
    pub(crate) async fn sidecar(&self, stage: &mut Stage, app_id: &str) -> anyhow::Result<Beside> {
        let app_port = free_port()?;
        let config = SidecarConfig::new(app_id, app_port, self.component.clone(), &self.registry)
            .with_component_metadata("prefetchCount", PREFETCH.to_string());
        let sidecar = Sidecar::start(config).await?;
        let url = sidecar.url().to_owned();
        stage.keep_sidecar(sidecar);
        Ok(Beside { url, app_port })
    }
}
