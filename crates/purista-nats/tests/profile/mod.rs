//! How trials find NATS.

mod deployment;
mod original;
mod secured;
mod stoppages;
mod wire;

use std::sync::Arc;

use purista_conformance::{Deployment, DeploymentOptions, Profile};
use purista_core::{Result, adapter::async_trait};
use purista_integration_tests::{
    FaultProxy, OwnBroker,
    nats::{NatsConfig, NatsServer},
};

use self::{
    deployment::{NatsDeployment, Place, at, cancel_consumer},
    secured::Secured,
    stoppages::stoppages,
    wire::unavailable,
};

#[allow(dead_code, reason = "the test of wrong bridges writes no table")]
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
        let mut place = Place::new(self.has_jetstream, options);
        if !options.own_broker && options.security.is_none() {
            let server = NatsServer::shared(self.has_jetstream).await.map_err(unavailable)?;
            server.url().clone_into(&mut place.url);
            return Ok(Arc::new(NatsDeployment::new(place, None, Some(server))));
        }
        let mut base = if self.has_jetstream { NatsConfig::jetstream() } else { NatsConfig::core() };
        if let Some(bytes) = options.max_broker_message {
            base = base.with_lines(format!("max_payload: {bytes}"));
        }
        let mut config = base.clone();
        let security = options.security.map(|security| Secured::new(security, &place.prefix)).transpose()?;
        if let Some(security) = &security {
            config = security.configure_server(config);
        }
        let server = Arc::new(NatsServer::start(config).await.map_err(unavailable)?);
        let proxy = FaultProxy::start(server.address()).map_err(unavailable)?;
        place.url = server.url_through(&proxy);
        let (url, prefix) = (server.url().to_owned(), place.prefix.clone());
        let process = server.process().map_err(unavailable)?.clone();
        let stoppages = stoppages(&server, &base, &prefix, self.has_jetstream);
        let broker = OwnBroker::new(process, proxy, move |subscriber| {
            cancel_consumer(url.clone(), prefix.clone(), subscriber)
        });
        let broker = broker.with_stoppages(stoppages);
        Ok(Arc::new(NatsDeployment::new(place, Some(broker), Some(server)).secured(security)))
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        Ok(Arc::new(at(location)?))
    }

    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        self.not_applicable
    }
}
