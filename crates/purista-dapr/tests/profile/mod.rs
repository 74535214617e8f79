//! How trials find Dapr.

mod deployment;
mod fleet;
mod instance;
mod original;
mod secured;
mod sockets;
mod stoppages;
mod wire;

use std::sync::Arc;

use purista_conformance::{Deployment, DeploymentOptions, Profile};
use purista_core::{Capability, Id, Result, adapter::async_trait};
use purista_integration_tests::{
    dapr::Component,
    rabbitmq::{RabbitConfig, RabbitServer},
};

use self::{
    deployment::{DaprDeployment, Place},
    fleet::{Fleet, Sidecars},
    secured::Secured,
    wire::{prepare_dead_letters, unavailable},
};

#[allow(dead_code, reason = "the test of wrong bridges writes no table")]
pub(crate) const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capabilities.md");

/// The virtual host of a server that belongs to one trial.
const DEFAULT_VHOST: &str = "/";

/// Sidecars with one pub/sub component.
pub(crate) struct DaprProfile {
    name: &'static str,
    is_durable: bool,
    not_applicable: &'static [(&'static str, &'static str)],
}

const ANSWERS: &str = "an answer is the HTTP response to its call, and nobody else can give it";
const CONSUMERS: &str = "a sidecar does not tell when its component consumes no more";
const NEIGHBOURS: &str = "each message goes to the sidecar as a request of its own";
const OWN_EVENTS: &str = "the component delivers only what its own sidecar publishes";
const ONE_BY_ONE: &str = "the component delivers the events of a topic one after the other";
const NO_SESSION: &str = "what is kept is kept behind the sidecar, which does not tell when that is gone";
const WAITING: &str =
    "each message that waits has a request of its sidecar, which makes 1,024 at once at the most";
const NO_QUEUE: &str = "the component has no queue to look into";

impl DaprProfile {
    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const IN_MEMORY: Self = Self {
        name: "dapr-in-memory",
        is_durable: false,
        not_applicable: &[
            ("SEC-6", ANSWERS),
            ("ISO-1", NEIGHBOURS),
            ("LIM-2", NO_QUEUE),
            ("LIM-5", ONE_BY_ONE),
            ("ACK-10", OWN_EVENTS),
            ("ENV-1", OWN_EVENTS),
            ("ENV-4", OWN_EVENTS),
            ("ERR-1", OWN_EVENTS),
            ("ERR-2", OWN_EVENTS),
            ("GRP-3", OWN_EVENTS),
            ("IDN-1", OWN_EVENTS),
            ("LIF-3", OWN_EVENTS),
            ("LIF-7", OWN_EVENTS),
            ("LIF-8", OWN_EVENTS),
            ("LIF-10", OWN_EVENTS),
            ("LIM-1", OWN_EVENTS),
            ("LIM-3", OWN_EVENTS),
            ("MAT-2", OWN_EVENTS),
            ("MAT-8", OWN_EVENTS),
            ("WIR-4", OWN_EVENTS),
            ("WIR-5", OWN_EVENTS),
            ("WIR-9", OWN_EVENTS),
            ("NET-10", OWN_EVENTS),
            ("OBS-1", OWN_EVENTS),
        ],
    };

    #[allow(dead_code, reason = "each of the test targets uses one of them")]
    pub(crate) const RABBITMQ: Self = Self {
        name: "dapr-rabbitmq",
        is_durable: true,
        not_applicable: &[
            ("SEC-6", ANSWERS),
            ("ACK-14", WAITING),
            ("HLT-2", CONSUMERS),
            ("ISO-1", NEIGHBOURS),
            ("NET-7", CONSUMERS),
            ("NET-6", NO_SESSION),
        ],
    };

    /// Returns what the component is promised to give, as it is configured here.
    fn gives(&self) -> Vec<Capability> {
        if !self.is_durable {
            return Vec::new();
        }
        vec![
            Capability::DurableSubscriptions,
            Capability::SurvivesBrokerKill,
            Capability::BrokerConfirm,
            Capability::ManualAcknowledgement,
            Capability::DeadLetter,
        ]
    }

    /// Finds the server of a durable component, and the virtual host for the trial.
    async fn server(&self, is_own: bool) -> Result<Option<(Arc<RabbitServer>, String)>> {
        if !self.is_durable {
            return Ok(None);
        }
        let (server, vhost) = if is_own {
            let server = RabbitServer::start(RabbitConfig::default()).await.map_err(unavailable)?;
            (Arc::new(server), DEFAULT_VHOST.to_owned())
        } else {
            let (server, vhost) =
                (RabbitServer::shared().await.map_err(unavailable)?, format!("t{}", Id::random()));
            server.management().create_vhost(&vhost).await.map_err(unavailable)?;
            (server, vhost)
        };
        prepare_dead_letters(&server.url_of(&vhost)).await?;
        Ok(Some((server, vhost)))
    }
}

#[async_trait]
impl Profile for DaprProfile {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let server = self.server(options.own_broker && options.security.is_none()).await?;
        let component = match &server {
            Some((server, vhost)) => Component::RabbitMq { url: server.url_of(vhost) },
            None => Component::InMemory,
        };
        let place = Place::new(&component, self.gives(), options);
        let security = options.security.map(Secured::new).transpose()?;
        let fleet = Arc::new(Fleet::new(component, security)?);
        let process = match &server {
            Some((server, _)) if options.own_broker && options.security.is_none() => {
                Some(server.process().map_err(unavailable)?.clone())
            }
            _ => None,
        };
        let broker = options.own_broker.then(|| Sidecars::new(Arc::clone(&fleet), process));
        Ok(Arc::new(DaprDeployment::new(place, fleet, broker, server)))
    }

    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>> {
        let place: Place = serde_json::from_str(location).map_err(unavailable)?;
        let place = place.promising(self.gives());
        let fleet = Arc::new(Fleet::new(place.component(), None)?);
        Ok(Arc::new(DaprDeployment::new(place, fleet, None, None)))
    }

    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        self.not_applicable
    }
}
