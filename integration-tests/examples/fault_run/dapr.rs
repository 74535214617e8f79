use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use purista_core::{Capability, EventBridge};
use purista_dapr::DaprBridge;
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    fault_run::{Inventory, Node, Site},
    free_port,
    rabbitmq::{RabbitConfig, RabbitServer},
};

use super::amqp;

/// The sidecars, in the order in which bridges connect, and their apps. The command is looked for at the second one.
const SIDECARS: [(&str, &str); 3] = [
    ("the client's sidecar", "app-client-v1"),
    ("the sidecar of service 0", "app-echo-v1"),
    ("the sidecar of service 1", "app-echo-v1"),
];
/// How many events a sidecar takes from the component, and calls its app with, at once; all without it.
const PREFETCHED: u8 = 255;
/// What the component gives as it is configured.
const GIVES: [Capability; 4] = [
    Capability::DurableSubscriptions,
    Capability::SurvivesBrokerKill,
    Capability::BrokerConfirm,
    Capability::ManualAcknowledgement,
];
/// After that time without an answer a sidecar counts as lost.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Sidecars of Dapr, which are broken, and a RabbitMQ behind them, which is not.
#[derive(Debug)]
pub(crate) struct Dapr {
    nodes: Vec<Node>,
    sidecars: Vec<Sidecar>,
    server: RabbitServer,
}

impl Dapr {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = RabbitServer::start(RabbitConfig::default()).await?;
        let component = Component::RabbitMq { url: server.url().to_owned() };
        let registry = Registry::new()?;
        let (mut nodes, mut sidecars) = (Vec::new(), Vec::new());
        for (name, app_id) in SIDECARS {
            let config = SidecarConfig::new(app_id, free_port()?, component.clone(), &registry)
                .with_component_metadata("prefetchCount", PREFETCHED.to_string());
            let sidecar = Sidecar::start(config).await?;
            nodes.push(Node::new(name, sidecar.process(), sidecar.address())?);
            sidecars.push(sidecar);
        }
        Ok(Self { nodes, sidecars, server })
    }

    /// Returns the names of the sidecar and the server, with their versions.
    #[allow(dead_code, reason = "the short run in the tests prints no report")]
    pub(crate) async fn broker(&self) -> anyhow::Result<String> {
        let daprd = self.sidecars.first().context("no sidecar")?.version().await?;
        Ok(format!("daprd {daprd} before RabbitMQ {}", self.server.management().version().await?))
    }
}

#[async_trait]
impl Site for Dapr {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn broken(&self) -> &'static str {
        "sidecars, each in its turn and all at once"
    }

    fn bridge(&self, address: SocketAddr) -> purista_core::Result<Arc<dyn EventBridge>> {
        let bridge =
            DaprBridge::builder(format!("dapr://{address}")).component_gives(GIVES).keep_alive(KEEP_ALIVE);
        Ok(Arc::new(bridge.build()?))
    }

    async fn inventory(&self) -> anyhow::Result<Inventory> {
        amqp::inventory(&self.server).await
    }
}
