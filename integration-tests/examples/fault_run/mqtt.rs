use std::{
    fs,
    net::SocketAddr,
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
    FaultProxy, Process,
    fault_run::{Inventory, Site},
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

/// A Mosquitto with the configuration that comes with the adapter.
#[derive(Debug)]
pub(crate) struct Mqtt {
    server: MosquittoServer,
    proxy: FaultProxy,
    bridges: AtomicUsize,
}

impl Mqtt {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = MosquittoServer::start(MosquittoConfig::tuned()).await?;
        let proxy = FaultProxy::start(server.address())?;
        Ok(Self { server, proxy, bridges: AtomicUsize::new(0) })
    }

    /// Returns the name of the server, with its version.
    #[allow(dead_code, reason = "the short run in the tests prints no report")]
    pub(crate) fn broker(&self) -> anyhow::Result<String> {
        let log = self.server.process().log();
        let name = log.lines().find_map(|line| line.strip_suffix(" starting"));
        Ok(name.context("the server does not tell its version")?.to_owned())
    }

    fn saved_at(&self) -> anyhow::Result<SystemTime> {
        let data = self.server.process().folder().join("data").join("mosquitto.db");
        Ok(fs::metadata(data)?.modified()?)
    }
}

#[async_trait]
impl Site for Mqtt {
    fn process(&self) -> &Process {
        self.server.process()
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
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

    /// While events flow, the broker saves its data again and again.
    async fn settle(&self) -> anyhow::Result<()> {
        let before = self.saved_at().ok();
        let mut poll = interval(POLL);
        let saved = async {
            while self.saved_at().ok() == before {
                poll.tick().await;
            }
        };
        timeout(PATIENCE, saved).await.context("the server does not save its data")
    }

    async fn inventory(&self) -> anyhow::Result<Inventory> {
        let connections = self.server.clients()?.len();
        let subscriptions = self.server.subscriptions()?;
        let consumers =
            subscriptions.iter().map(|Subscription { client, filter, .. }| format!("{client}: {filter}"));
        let waiting = self.server.queued().await?;
        Ok(Inventory::new(connections, consumers.collect(), waiting as u64))
    }
}
