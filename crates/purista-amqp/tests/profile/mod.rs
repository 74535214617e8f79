//! How trials find RabbitMQ.

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
    rabbitmq::{RabbitConfig, RabbitServer},
};

use self::{
    deployment::{AmqpDeployment, Place, at, cancel_consumer},
    secured::Secured,
    stoppages::stoppages,
    wire::unavailable,
};

#[allow(dead_code, reason = "the test of wrong bridges writes no table")]
pub(crate) const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capabilities.md");

/// The virtual host of a server that belongs to one trial.
const DEFAULT_VHOST: &str = "/";

/// RabbitMQ, with one of the topologies.
pub(crate) struct AmqpProfile {
    name: &'static str,
    is_typescript: bool,
}

impl AmqpProfile {
    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const NATIVE: Self = Self { name: "amqp", is_typescript: false };

    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const TYPESCRIPT: Self = Self { name: "amqp-typescript", is_typescript: true };
}

#[async_trait]
impl Profile for AmqpProfile {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let mut place = Place::new(self.is_typescript, options);
        if !options.own_broker && options.security.is_none() {
            let server = RabbitServer::shared().await.map_err(unavailable)?;
            place.vhost.clone_from(&place.prefix);
            server.management().create_vhost(&place.vhost).await.map_err(unavailable)?;
            place.url = server.url_of(&place.vhost);
            return Ok(Arc::new(AmqpDeployment::new(place, None, Some(server))));
        }
        let security = options.security.map(Secured::new).transpose()?;
        let config = match options.max_broker_message {
            Some(bytes) => RabbitConfig::default().with_lines(format!("max_message_size = {bytes}")),
            None => RabbitConfig::default(),
        };
        let config = match &security {
            Some(security) => security.configure_server(config),
            None => config,
        };
        let server = Arc::new(RabbitServer::start(config).await.map_err(unavailable)?);
        if let Some(security) = &security {
            security.prepare(&server, &place.prefix).await?;
        }
        let proxy = FaultProxy::start(server.address()).map_err(unavailable)?;
        place.vhost = DEFAULT_VHOST.to_owned();
        place.url = server.url_through(&proxy);
        let (ours, names) = (Arc::clone(&server), place.clone());
        let process = server.process().map_err(unavailable)?.clone();
        let broker = OwnBroker::new(process, proxy, move |subscriber| {
            cancel_consumer(Arc::clone(&ours), names.clone(), subscriber)
        });
        let broker = broker.with_stoppages(stoppages(&server, &place));
        let ours = Arc::clone(&server);
        let broker = broker.with_before_kill(move || {
            let ours = Arc::clone(&ours);
            async move { ours.quorum_queues_are_on_disk(DEFAULT_VHOST).await.map_err(unavailable) }
        });
        Ok(Arc::new(AmqpDeployment::new(place, Some(broker), Some(server)).secured(security)))
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        Ok(Arc::new(at(location)?))
    }
}
