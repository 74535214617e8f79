use std::{ops::Deref, sync::Arc, time::Duration};

use futures_util::future::join_all;
use lapin::{
    Connection, ExchangeKind,
    options::ExchangeDeclareOptions,
    protocol::AMQPSoftError,
    types::{FieldTable, ShortString},
};
use purista_core::{ErrorKind, Id, Result, adapter::ServerUrl};
use tokio::time::timeout;

use crate::{
    channels::{Channels, OpenChannel},
    config::Config,
    error::{from_lapin, soft_error},
    outlet::Outlet,
    topology::{ExchangeSpec, Topology},
    watch::Watch,
};

/// How long the polite end of a connection may take.
const CLOSING: Duration = Duration::from_secs(5);

/// One connection to publish and others to consume, as the broker stops reading from who publishes when it is short of
/// memory: acknowledgements must come through then. It lives until the first of them is lost.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outlet: Outlet,
    consuming: Channels,
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
        config
            .connection
            .servers
            .first_that_takes(|server| Self::open_at(config, server, topology, instance_id))
            .await
    }

    async fn open_at(
        config: &Config,
        server: &ServerUrl,
        topology: &Topology,
        instance_id: &Id,
    ) -> Result<Self> {
        let watch = Watch::default();
        // What follows connections ends with this, also if it is not finished.
        let ending = watch.ends_when_dropped();
        let open = async |role| Channels::open(config, server, instance_id, role, &watch).await;
        let (publishing, consuming) = (open("publishes").await?, open("consumes").await?);
        drop(ending.disarm());
        let outlet = Outlet::new(publishing, config.max_unconfirmed_bytes);
        let session = Self { outlet, consuming, watch };
        session.declare_exchanges(&topology.exchanges()).await?;
        Ok(session)
    }

    /// Opens a channel to consume. Cancel safe.
    pub(crate) async fn channel(&self) -> Result<OpenChannel> {
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
        join_all(self.outlet.channels().connections().await.iter().map(close)).await;
        join_all(self.consuming.connections().await.iter().map(close)).await;
    }

    /// Returns an exchange that is not there.
    pub(crate) async fn missing_exchange(&self, exchanges: &[ExchangeSpec]) -> Result<Option<ShortString>> {
        let channel = self.channel().await?;
        for ExchangeSpec { name, kind } in exchanges {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let declared =
                channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default()).await;
            match declared {
                Ok(()) => {}
                Err(cause) if soft_error(&cause) == Some(AMQPSoftError::NOTFOUND) => {
                    return Ok(Some(name.clone()));
                }
                Err(cause) => return Err(from_lapin(cause, "look")),
            }
        }
        Ok(None)
    }

    pub(crate) async fn declare_exchanges(&self, exchanges: &[ExchangeSpec]) -> Result<()> {
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

/// Ends a connection politely.
pub(crate) async fn close(connection: &Arc<Connection>) {
    if connection.status().connected() {
        let closed = timeout(CLOSING, connection.close(200, "the bridge shut down".into())).await;
        tracing::debug!(?closed, "connection closed");
    }
}
