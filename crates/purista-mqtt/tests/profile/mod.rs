//! How trials find Mosquitto.

mod deployment;
mod instances;
mod original;
mod peer;
mod secured;
mod stoppages;
mod wire;

use std::sync::Arc;

use purista_conformance::{Deployment, DeploymentOptions, Profile};
use purista_core::{Result, adapter::async_trait};
use purista_integration_tests::{
    FaultProxy, OwnBroker,
    mosquitto::{MosquittoConfig, MosquittoServer},
};

use self::{
    deployment::{MqttDeployment, Place, cancel_consumer},
    secured::Secured,
    stoppages::stoppages,
    wire::unavailable,
};

#[allow(dead_code, reason = "the test of wrong bridges writes no table")]
pub(crate) const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capabilities.md");

const KEEPS_FEW: &str =
    "a stock Mosquitto keeps 1,000 messages for a subscriber, and drops and acknowledges what comes beyond";

/// Mosquitto, as Debian configures it or as this crate does.
pub(crate) struct MqttProfile {
    name: &'static str,
    is_tuned: bool,
    not_applicable: &'static [(&'static str, &'static str)],
}

impl MqttProfile {
    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const TUNED: Self = Self { name: "mqtt", is_tuned: true, not_applicable: &[] };

    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const STOCK: Self = Self {
        name: "mqtt-stock",
        is_tuned: false,
        not_applicable: &[("LIM-2", KEEPS_FEW), ("LIM-4", KEEPS_FEW)],
    };
}

#[async_trait]
impl Profile for MqttProfile {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let mut place = Place::new(self.is_tuned, options);
        let mut config = if self.is_tuned { MosquittoConfig::tuned() } else { MosquittoConfig::stock() };
        let security = options.security.map(|security| Secured::new(security, &place.prefix)).transpose()?;
        if let Some(security) = &security {
            config = security.configure_server(config);
        }
        if let Some(bytes) = options.max_broker_message {
            config = config.with_lines(format!("message_size_limit {bytes}"));
        }
        let server = Arc::new(MosquittoServer::start(config).await.map_err(unavailable)?);
        if !options.own_broker {
            server.url().clone_into(&mut place.url);
            return Ok(Arc::new(MqttDeployment::new(place, server)));
        }
        let proxy = FaultProxy::start(server.address()).map_err(unavailable)?;
        place.url = server.url_through(&proxy);
        let (process, prefix) = (server.process().clone(), place.prefix.clone());
        let deployment = MqttDeployment::new(place, Arc::clone(&server));
        let instances = deployment.instances();
        let stoppages = stoppages(&server, &prefix);
        let broker = OwnBroker::new(process, proxy, move |subscriber| {
            cancel_consumer(Arc::clone(&server), prefix.clone(), Arc::clone(&instances), subscriber)
        });
        Ok(Arc::new(
            deployment
                .broken_by(broker.with_connection_per_consumer().with_stoppages(stoppages))
                .secured(security),
        ))
    }

    async fn reach(&self, _location: &str) -> Result<Arc<dyn Deployment>> {
        Err(unavailable("no trial of this profile starts another process"))
    }

    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        self.not_applicable
    }
}
