use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Event, ExchangeKind,
    options::ExchangeDeclareOptions,
    protocol::AMQPSoftError,
    types::{FieldTable, ShortString},
};
use purista_core::{ErrorKind, Id, Result};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    config::{Config, Server},
    connect::connect,
    error::{error, from_lapin, soft_error},
    publisher::{Publisher, Room},
    topology::{ExchangeSpec, Topology},
};

/// How often the state of a connection is compared with what its events told.
const RECONCILE: Duration = Duration::from_secs(1);

/// How long the polite end of a connection may take.
const CLOSING: Duration = Duration::from_secs(5);

/// One connection to publish and one to consume, as the broker stops reading from who publishes when it is short of
/// memory: acknowledgements must come through then. It lives until the first of them is lost.
#[derive(Debug)]
pub(crate) struct Session {
    publishing: Arc<lapin::Connection>,
    consuming: Arc<lapin::Connection>,
    pub(crate) events: Publisher,
    pub(crate) commands: Publisher,
    pub(crate) responses: Publisher,
    /// For one message at a time, whose return cannot be taken for that of another.
    pub(crate) one_by_one: tokio::sync::Mutex<Publisher>,
    blocked: watch::Receiver<bool>,
    lost: CancellationToken,
    _end: DropGuard,
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
        let consuming = Arc::new(connect(config, server, instance_id, "consumes").await?);
        let publishing = Arc::new(connect(config, server, instance_id, "publishes").await?);
        declare_exchanges(&consuming, &topology.exchanges()).await?;
        let room = Room::new(config.max_unconfirmed_bytes);
        let publisher = || Publisher::new(Arc::clone(&publishing), Arc::clone(&room));
        let lost = CancellationToken::new();
        let (is_blocked, blocked) = watch::channel(false);
        for connection in [&publishing, &consuming] {
            tokio::spawn(follow(Arc::clone(connection), is_blocked.clone(), lost.clone()));
        }
        Ok(Self {
            events: publisher(),
            commands: publisher(),
            responses: publisher(),
            one_by_one: tokio::sync::Mutex::new(publisher()),
            publishing,
            consuming,
            blocked,
            _end: lost.clone().drop_guard(),
            lost,
        })
    }

    /// Opens a channel to consume.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        self.consuming.create_channel().await.map_err(|cause| match cause.kind() {
            lapin::ErrorKind::ChannelsLimitReached => error(ErrorKind::Backpressure, "register")
                .context("the broker allows no more channels on a connection (channel_max)")
                .source(cause),
            _ => from_lapin(cause, "register"),
        })
    }

    /// Returns whether the broker takes no messages at the moment, as it is short of memory or disk.
    pub(crate) fn is_blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    /// Waits until the broker takes messages. Cancel safe.
    pub(crate) async fn unblocked(&self) {
        let mut blocked = self.blocked.clone();
        // The sender is gone with the connection: then the attempt to publish tells.
        let _gone = blocked.wait_for(|blocked| !*blocked).await;
    }

    /// Waits until a connection is lost. Cancel safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Does something on a connection; `None` if it is lost before. The client can leave one waiting for ever then.
    pub(crate) async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.lost() => None,
            output = work => Some(output),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Ends both connections politely.
    pub(crate) async fn close(&self) {
        self.lost.cancel();
        let close = async |connection: &lapin::Connection| {
            if connection.status().connected() {
                let closed = timeout(CLOSING, connection.close(200, "the bridge shut down".into())).await;
                tracing::debug!(?closed, "connection closed");
            }
        };
        // Answers and acknowledgements of the last moment go first.
        close(&self.publishing).await;
        close(&self.consuming).await;
    }
}

async fn declare_exchanges(connection: &lapin::Connection, exchanges: &[ExchangeSpec]) -> Result<()> {
    for ExchangeSpec { name, kind } in exchanges {
        let declared = declare(connection, name, kind, false).await;
        match declared {
            // Who may not create it can still use one that is there.
            Err(cause) if soft_error(&cause) == Some(AMQPSoftError::ACCESSREFUSED) => {
                declare(connection, name, kind, true).await
            }
            declared => declared,
        }
        .map_err(|cause| from_lapin(cause, "start"))?;
    }
    Ok(())
}

async fn declare(
    connection: &lapin::Connection,
    name: &ShortString,
    kind: &ExchangeKind,
    passive: bool,
) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    let channel = connection.create_channel().await?;
    channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default()).await
}

/// Follows what the broker and the client tell of a connection, until it or the session is over.
async fn follow(
    connection: Arc<lapin::Connection>,
    is_blocked: watch::Sender<bool>,
    lost: CancellationToken,
) {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut reconcile = interval(RECONCILE);
    loop {
        let event = tokio::select! {
            () = lost.cancelled() => break,
            event = events.next() => event,
            _tick = reconcile.tick() => None,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker takes no messages");
                is_blocked.send_replace(true);
            }
            Some(Event::ConnectionUnblocked) => {
                is_blocked.send_replace(false);
            }
            // Also the errors of channels come here.
            _ if connection.status().connected() => {}
            _ => break,
        }
    }
    lost.cancel();
}
