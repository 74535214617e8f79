//! How trials find NATS.

mod broker;
mod deployment;
mod wire;

use std::sync::Arc;

use purista_conformance::{Deployment, DeploymentOptions, Profile};
use purista_core::{Id, Result, adapter::async_trait};
use purista_integration_tests::nats::{NatsConfig, NatsServer};

use self::{
    broker::OwnBroker,
    deployment::{NatsDeployment, Place, at},
    wire::unavailable,
};

pub(crate) const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capabilities.md");

/// NATS, with or without JetStream.
pub(crate) struct NatsProfile {
    name: &'static str,
    has_jetstream: bool,
    not_applicable: &'static [(&'static str, &'static str)],
}

impl NatsProfile {
    #[allow(dead_code, reason = "each of the two test targets uses one of them")]
    pub(crate) const JETSTREAM: Self = Self { name: "nats", has_jetstream: true, not_applicable: &[] };

    #[allow(dead_code, reason = "each of the two test targets uses one of them")]
    pub(crate) const CORE: Self = Self {
        name: "nats-core",
        has_jetstream: false,
        not_applicable: &[(
            "LIM-2",
            "core NATS has no queue: what a subscriber has no room for is lost and counted",
        )],
    };
}

#[async_trait]
impl Profile for NatsProfile {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let prefix = format!("t{}", Id::random());
        let (broker, server, url) = if options.own_broker || options.security.is_some() {
            let config = if self.has_jetstream { NatsConfig::jetstream() } else { NatsConfig::core() };
            let broker = OwnBroker::start(config, &prefix).await?;
            let (server, url) = (Arc::clone(broker.server()), broker.url());
            (Some(broker), server, url)
        } else {
            let server = NatsServer::shared(self.has_jetstream).await.map_err(unavailable)?;
            let url = server.url().to_owned();
            (None, server, url)
        };
        let place = Place::new(url, &prefix, options);
        Ok(Arc::new(NatsDeployment::new(place, broker, Some(server))))
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        Ok(Arc::new(at(location)?))
    }

    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        self.not_applicable
    }
}
