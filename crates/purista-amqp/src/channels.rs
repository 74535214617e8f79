use std::{ops::Deref, sync::Arc};

use lapin::Channel;
use purista_core::{Id, Result};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::{
    config::{Config, Server},
    connect::connect,
    error::{from_lapin, soft_error},
    watch::Watch,
};

/// How many channels one connection has. The client looks at all of them for each frame that it sends.
const CHANNELS: usize = 32;

/// The channels to consume, on as many connections to one server as they need.
#[derive(Debug)]
pub(crate) struct Channels {
    config: Config,
    server: Server,
    instance_id: Id,
    watch: Watch,
    connections: Mutex<Vec<Shared>>,
}

/// A connection with room for further channels.
#[derive(Debug)]
struct Shared {
    connection: Arc<lapin::Connection>,
    room: Arc<Semaphore>,
}

/// A channel to consume, which is closed with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerChannel {
    channel: Channel,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Deref for ConsumerChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Channels {
    /// Connects for the first time.
    pub(crate) async fn open(
        config: &Config,
        server: &Server,
        instance_id: &Id,
        watch: &Watch,
    ) -> Result<Self> {
        let mut channels = Self {
            config: config.clone(),
            server: server.clone(),
            instance_id: instance_id.clone(),
            watch: watch.clone(),
            connections: Mutex::default(),
        };
        let first = channels.connect().await?;
        channels.connections.get_mut().push(first);
        Ok(channels)
    }

    /// Opens a channel. Cancel safe.
    pub(crate) async fn channel(&self) -> Result<ConsumerChannel> {
        let (connection, place) = self.place().await?;
        let mut created = connection.create_channel().await;
        for _number in 0..connection.configuration().channel_max() {
            match &created {
                // Opening is never refused like this: the client has given a number again whose channel had failed, and
                // repeats that failure.
                Err(cause) if soft_error(cause).is_some() => created = connection.create_channel().await,
                _ => break,
            }
        }
        let channel = created.map_err(|cause| from_lapin(cause, "register"))?;
        Ok(ConsumerChannel { channel, _place: Arc::new(place) })
    }

    async fn place(&self) -> Result<(Arc<lapin::Connection>, OwnedSemaphorePermit)> {
        let mut connections = self.connections.lock().await;
        loop {
            for Shared { connection, room } in connections.iter() {
                if let Ok(place) = Arc::clone(room).try_acquire_owned() {
                    return Ok((Arc::clone(connection), place));
                }
            }
            connections.push(self.connect().await?);
        }
    }

    async fn connect(&self) -> Result<Shared> {
        let connection = connect(&self.config, &self.server, &self.instance_id, "consumes").await?;
        let connection = Arc::new(connection);
        self.watch.follow(&connection);
        let room = match usize::from(connection.configuration().channel_max()) {
            0 => CHANNELS,
            // The connection itself counts as one, and so do those that are being closed.
            max => (max / 2).clamp(1, CHANNELS),
        };
        Ok(Shared { connection, room: Arc::new(Semaphore::new(room)) })
    }

    /// Returns the connections that are open.
    pub(crate) async fn connections(&self) -> Vec<Arc<lapin::Connection>> {
        let connections = self.connections.lock().await;
        connections.iter().map(|shared| Arc::clone(&shared.connection)).collect()
    }
}
