use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_nats::jetstream;
use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use purista_core::EventBridge;
use purista_integration_tests::{
    fault_run::{Inventory, Node, Site},
    nats::{Connection, NatsConfig, NatsServer, Subscription},
};
use purista_nats::{JetStreamConfig, NatsBridge};

/// The name of the connection that looks.
const INSPECTOR: &str = "inspector";
/// Where events wait.
const EVENTS: &str = "purista-events";
/// After the third ping without an answer a connection counts as lost.
const PING: Duration = Duration::from_millis(250);

/// A nats-server with JetStream.
#[derive(Debug)]
pub(crate) struct Nats {
    server: NatsServer,
    node: [Node; 1],
    ack_wait: Duration,
}

impl Nats {
    /// Starts a server that waits so long for acknowledgements.
    pub(crate) async fn start(ack_wait: Duration) -> anyhow::Result<Self> {
        let server = NatsServer::start(NatsConfig::jetstream()).await?;
        let node = [Node::new("broker", server.process()?, server.address())?];
        Ok(Self { server, node, ack_wait })
    }

    /// Returns the name of the server, with its version.
    #[allow(dead_code, reason = "the short run in the tests prints no report")]
    pub(crate) async fn broker(&self) -> anyhow::Result<String> {
        Ok(format!("nats-server {}", self.server.monitor().info().await?.version))
    }
}

#[async_trait]
impl Site for Nats {
    fn nodes(&self) -> &[Node] {
        &self.node
    }

    fn bridge(&self, address: SocketAddr) -> purista_core::Result<Arc<dyn EventBridge>> {
        let bridge = NatsBridge::builder(format!("nats://{address}"))
            .keep_alive(PING)
            .jetstream(JetStreamConfig::default().with_ack_wait(self.ack_wait));
        Ok(Arc::new(bridge.build()?))
    }

    async fn inventory(&self) -> anyhow::Result<Inventory> {
        let mut connections = self.server.monitor().connections().await?;
        connections.retain(|connection| connection.name != INSPECTOR);
        let mut consumers: Vec<_> = connections.iter().map(describe).collect();

        let client = async_nats::ConnectOptions::new().name(INSPECTOR).connect(self.server.url()).await?;
        let stream = jetstream::new(client).get_stream(EVENTS).await?;
        let shared: Vec<_> = stream.consumers().try_collect().await?;
        consumers.extend(shared.into_iter().map(|consumer| consumer.name));
        // An event stays until all who want it have acknowledged it.
        let waiting = stream.cached_info().state.messages;
        Ok(Inventory::new(connections.len(), consumers, waiting))
    }
}

/// Tells who is connected, and what it listens to.
fn describe(connection: &Connection) -> String {
    let listens = |Subscription { subject, queue, .. }: &Subscription| match queue {
        Some(queue) => format!("{subject} as {queue}"),
        None => subject.clone(),
    };
    let mut subscriptions: Vec<_> = connection.subscriptions.iter().map(listens).collect();
    subscriptions.sort_unstable();
    format!("{}: {}", connection.name, subscriptions.join(", "))
}
