use std::{ops::Deref, sync::Arc, time::Duration};

use futures_util::future::join_all;
use lapin::{
    Connection, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{FieldTable, ShortString},
};
use purista_core::{ErrorKind, Id, Result};
use tokio::time::timeout;

use crate::{
    channels::{Channels, ConsumerChannel},
    config::{Config, Server},
    connect::connect,
    error::{error, from_lapin},
    publisher::{Publisher, Room},
    topology::{ExchangeSpec, Topology},
    watch::Watch,
};

/// How long the polite end of a connection may take.
const CLOSING: Duration = Duration::from_secs(5);

/// One connection to publish and others to consume, as the broker stops reading from who publishes when it is short of
/// memory: acknowledgements must come through then. It lives until the first of them is lost.
#[derive(Debug)]
pub(crate) struct Session {
    publishing: Arc<Connection>,
    consuming: Channels,
    pub(crate) events: Publisher,
    pub(crate) commands: Publisher,
    pub(crate) responses: Publisher,
    /// For one message at a time, whose return cannot be taken for that of another.
    pub(crate) one_by_one: tokio::sync::Mutex<Publisher>,
    watch: Watch,
}

impl Deref for Session {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Session {
    /// Connects to the first server that answers, and declares what everything is bound to.
    pub(crate) async fn open(config: &Config, topology: &Topology, instance_id: &Id) -> Result<Self> {
        let mut last = error(ErrorKind::InvalidConfig, "start");
        for server in &config.servers {
            match Self::open_at(config, server, topology, instance_id).await {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn open_at(
        config: &Config,
        server: &Server,
        topology: &Topology,
        instance_id: &Id,
    ) -> Result<Self> {
        let watch = Watch::default();
        let publishing = Arc::new(connect(config, server, instance_id, "publishes").await?);
        // From here on the session ends what follows its connections.
        let consuming = Channels::open(config, server, instance_id, &watch).await?;
        watch.follow(&publishing);
        let room = Room::new(config.max_unconfirmed_bytes);
        let publisher = || Publisher::new(Arc::clone(&publishing), Arc::clone(&room));
        let session = Self {
            events: publisher(),
            commands: publisher(),
            responses: publisher(),
            one_by_one: tokio::sync::Mutex::new(publisher()),
            publishing,
            consuming,
            watch,
        };
        session.declare_exchanges(&topology.exchanges()).await?;
        Ok(session)
    }

    /// Opens a channel to consume. Cancel safe.
    pub(crate) async fn channel(&self) -> Result<ConsumerChannel> {
        self.consuming.channel().await
    }

    /// Does something on a connection; `None` if it is lost before. The client can leave one waiting for ever then.
    pub(crate) async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.lost() => None,
            output = work => Some(output),
        }
    }

    /// Ends all connections politely.
    pub(crate) async fn close(&self) {
        self.watch.end();
        // Answers and acknowledgements of the last moment go first.
        close(&self.publishing).await;
        join_all(self.consuming.connections().await.iter().map(close)).await;
    }

    async fn declare_exchanges(&self, exchanges: &[ExchangeSpec]) -> Result<()> {
        for ExchangeSpec { name, kind } in exchanges {
            let declared = self.declare_exchange(name, kind, false).await;
            match declared {
                // Who may not create it can still use one that is there.
                Err(error) if error.kind() == ErrorKind::Forbidden => {
                    self.declare_exchange(name, kind, true).await?;
                }
                declared => declared?,
            }
        }
        Ok(())
    }

    async fn declare_exchange(&self, name: &ShortString, kind: &ExchangeKind, passive: bool) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await?;
        let declared = channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default());
        declared.await.map_err(|cause| from_lapin(cause, "start"))
    }
}

/// What follows the connections of a session ends with it.
impl Drop for Session {
    fn drop(&mut self) {
        self.watch.end();
    }
}

async fn close(connection: &Arc<Connection>) {
    if connection.status().connected() {
        let closed = timeout(CLOSING, connection.close(200, "the bridge shut down".into())).await;
        tracing::debug!(?closed, "connection closed");
    }
}
