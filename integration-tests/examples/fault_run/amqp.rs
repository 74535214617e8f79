use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{Channel, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use purista_amqp::AmqpBridge;
use purista_core::EventBridge;
use purista_integration_tests::{
    fault_run::{Inventory, Node, Site},
    rabbitmq::{Queue, RabbitConfig, RabbitServer},
};

/// The name of the connection that looks.
const INSPECTOR: &str = "inspector";
const VHOST: &str = "/";
/// The least there is; after twice that without a sign of life a connection counts as lost.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A RabbitMQ, and the topology of the bridges.
#[derive(Debug)]
pub(crate) struct Amqp {
    server: RabbitServer,
    node: [Node; 1],
    is_typescript: bool,
}

impl Amqp {
    /// Starts a server for bridges with the native topology, or with that of the TypeScript original.
    pub(crate) async fn start(is_typescript: bool) -> anyhow::Result<Self> {
        let server = RabbitServer::start(RabbitConfig::default()).await?;
        let node = [Node::new("broker", server.process()?, server.address())?];
        Ok(Self { server, node, is_typescript })
    }

    /// Returns the name of the server, with its version.
    #[allow(dead_code, reason = "the short run in the tests prints no report")]
    pub(crate) async fn broker(&self) -> anyhow::Result<String> {
        let topology =
            if self.is_typescript { "topology of the TypeScript original" } else { "native topology" };
        Ok(format!("RabbitMQ {}, {topology}", self.server.management().version().await?))
    }
}

#[async_trait]
impl Site for Amqp {
    fn nodes(&self) -> &[Node] {
        &self.node
    }

    fn bridge(&self, address: SocketAddr) -> purista_core::Result<Arc<dyn EventBridge>> {
        let bridge = AmqpBridge::builder(format!("amqp://{address}")).keep_alive(HEARTBEAT);
        let bridge = if self.is_typescript { bridge.typescript_topology() } else { bridge };
        Ok(Arc::new(bridge.build()?))
    }

    /// One to publish and one to consume.
    fn connections_of_a_bridge(&self) -> usize {
        2
    }

    async fn settle(&self) -> anyhow::Result<()> {
        self.server.quorum_queues_are_on_disk(VHOST).await
    }

    async fn inventory(&self) -> anyhow::Result<Inventory> {
        inventory(&self.server).await
    }
}

/// Returns what is at a server now.
pub(crate) async fn inventory(server: &RabbitServer) -> anyhow::Result<Inventory> {
    let management = server.management();
    let connections = management.connections(VHOST).await?;
    let connections = connections.iter().filter(|known| known.connection_name() != Some(INSPECTOR)).count();
    let queues = management.queues(VHOST).await?;

    let properties = ConnectionProperties::default().with_connection_name(INSPECTOR.into());
    let inspector = lapin::Connection::connect(server.url(), properties).await?;
    let channel = inspector.create_channel().await?;
    let mut consumers = Vec::new();
    for queue in &queues {
        consumers.push(describe(&channel, queue).await?);
    }
    inspector.close(200, "it has seen enough".into()).await?;
    let waiting = queues.iter().map(|queue| queue.messages as u64).sum();
    Ok(Inventory::new(connections, consumers, waiting))
}

/// Tells of a queue, and how many consume it. The end of an exclusive one's name is a random one.
async fn describe(channel: &Channel, queue: &Queue) -> anyhow::Result<String> {
    if queue.exclusive {
        let name = queue.name.rsplit_once('.').map_or(queue.name.as_str(), |(name, _)| name);
        return Ok(format!("{name}, exclusive"));
    }
    // The management API learns of consumers later.
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.name.as_str().into(), look, FieldTable::default()).await?;
    Ok(format!("{} with {} consumers", queue.name, found.consumer_count()))
}
