use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use async_trait::async_trait;
use purista_core::EventBridge;
use purista_integration_tests::{
    fault_run::{Inventory, Node, Site},
    mosquitto::{MosquittoConfig, MosquittoServer, Subscription},
};
use purista_mqtt::MqttBridge;
use tokio::time::{interval, timeout};

/// The least there is; after one and a half times that without a sign of life a connection counts as lost.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long the broker keeps what waits for an instance.
const SESSION_EXPIRY: Duration = Duration::from_secs(60 * 60);
/// How long the broker may take until it has saved its data.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// What the file of the broker begins with: 15 bytes that say what it is, a checksum, and a version.
const HEADER: usize = 15 + 4 + 4;
/// The kind of a record in that file.
const MESSAGE_OF_A_CLIENT: [u8; 4] = 3_u32.to_be_bytes();

/// A Mosquitto with the configuration that comes with the adapter.
#[derive(Debug)]
pub(crate) struct Mqtt {
    server: MosquittoServer,
    node: [Node; 1],
    bridges: AtomicUsize,
}

impl Mqtt {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = MosquittoServer::start(MosquittoConfig::tuned()).await?;
        let node = [Node::new("broker", server.process(), server.address())?];
        Ok(Self { server, node, bridges: AtomicUsize::new(0) })
    }

    /// Returns the name of the server, with its version.
    #[allow(dead_code, reason = "the short run in the tests prints no report")]
    pub(crate) fn broker(&self) -> anyhow::Result<String> {
        let log = self.server.process().log();
        let name = log.lines().find_map(|line| line.strip_suffix(" starting"));
        Ok(name.context("the server does not tell its version")?.to_owned())
    }

    fn data(&self) -> PathBuf {
        self.server.process().folder().join("data").join("mosquitto.db")
    }

    fn saved_at(&self) -> anyhow::Result<SystemTime> {
        Ok(fs::metadata(self.data())?.modified()?)
    }

    /// Returns once the broker has saved its data, as it does each second.
    async fn saved(&self) -> anyhow::Result<()> {
        let before = self.saved_at().ok();
        let mut poll = interval(POLL);
        let saved = async {
            while self.saved_at().ok() == before {
                poll.tick().await;
            }
        };
        timeout(PATIENCE, saved).await.context("the server does not save its data")
    }

    /// Counts what waits for clients in the file of the broker. Its figures do not tell that after a restart: messages
    /// of its own are stored then that nobody waits for.
    async fn waiting(&self) -> anyhow::Result<u64> {
        self.saved().await?;
        let data = fs::read(self.data())?;
        let mut rest = data.get(HEADER..).context("a file without a header")?;
        let mut waiting = 0;
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let (kind, length) = (&head[..4], &head[4..]);
            waiting += u64::from(kind == MESSAGE_OF_A_CLIENT);
            let length = usize::try_from(u32::from_be_bytes(length.try_into()?))?;
            rest = body.get(length..).context("a file that ends early")?;
        }
        Ok(waiting)
    }
}

#[async_trait]
impl Site for Mqtt {
    fn nodes(&self) -> &[Node] {
        &self.node
    }

    fn bridge(&self, address: SocketAddr) -> purista_core::Result<Arc<dyn EventBridge>> {
        let number = self.bridges.fetch_add(1, Ordering::Relaxed);
        let bridge = MqttBridge::builder(format!("mqtt://{address}"))
            .instance_id(format!("instance-{number}"))
            .persistent_sessions(SESSION_EXPIRY)
            .keep_alive(KEEP_ALIVE);
        Ok(Arc::new(bridge.build()?))
    }

    fn connections_of_a_subscription(&self) -> usize {
        1
    }

    fn loses_at_a_kill(&self) -> bool {
        true
    }

    async fn settle(&self) -> anyhow::Result<()> {
        self.saved().await
    }

    async fn inventory(&self) -> anyhow::Result<Inventory> {
        let connections = self.server.clients()?.len();
        let subscriptions = self.server.subscriptions()?;
        // What a client listens to for finding out what it may read comes when it first looks for that.
        let is_echo = |it: &&Subscription| it.filter.ends_with(&format!("/+/{}", it.client));
        let consumers = subscriptions.iter().filter(|it| !is_echo(it));
        let consumers = consumers.map(|Subscription { client, filter, .. }| format!("{client}: {filter}"));
        let waiting = self.waiting().await?;
        Ok(Inventory::new(connections, consumers.collect(), waiting))
    }
}
