use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use lapin::{Channel, ConnectionState};
use purista_core::{Id, Result, adapter::ServerUrl};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Config,
    connect::connect,
    error::{from_lapin, soft_error},
    session::close,
    watch::Watch,
};

/// How many channels one connection has. The client looks at all of them for each frame that it sends.
const CHANNELS: usize = 32;

/// Channels of one purpose, on as many connections to one server as they need.
#[derive(Debug)]
pub(crate) struct Channels {
    config: Config,
    server: ServerUrl,
    instance_id: Id,
    /// What the connections are for.
    role: &'static str,
    watch: Watch,
    connections: Mutex<Vec<Arc<Shared>>>,
    /// The largest frame that the broker takes, in bytes.
    frame_max: usize,
}

/// A connection with room for further channels.
#[derive(Debug)]
struct Shared {
    connection: Arc<lapin::Connection>,
    room: Arc<Semaphore>,
    size: usize,
    /// Whether all its numbers of channels are used up.
    is_worn: AtomicBool,
    /// Follows the connection; dropped when we end it.
    watch: Watch,
}

/// A channel that is closed with its last clone.
#[derive(Clone, Debug)]
pub(crate) struct OpenChannel {
    channel: Channel,
    connection: Arc<Shared>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Deref for OpenChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl OpenChannel {
    /// Opens a channel on the same connection, for a moment: what is exclusive to the connection is open to it.
    pub(crate) async fn beside(&self) -> Result<Self> {
        let channel = self.connection.open().await.map_err(|cause| from_lapin(cause, "register"))?;
        Ok(Self { channel, connection: Arc::clone(&self.connection), _place: None })
    }
}

impl Channels {
    /// Connects for the first time.
    pub(crate) async fn open(
        config: &Config,
        server: &ServerUrl,
        instance_id: &Id,
        role: &'static str,
        watch: &Watch,
    ) -> Result<Self> {
        let mut channels = Self {
            config: config.clone(),
            server: server.clone(),
            instance_id: instance_id.clone(),
            role,
            watch: watch.clone(),
            connections: Mutex::default(),
            frame_max: usize::MAX,
        };
        let first = channels.connect().await?;
        channels.frame_max =
            usize::try_from(first.connection.configuration().frame_max()).unwrap_or(usize::MAX);
        channels.connections.get_mut().push(first);
        Ok(channels)
    }

    /// Opens a channel. Cancel safe.
    pub(crate) async fn channel(&self) -> Result<OpenChannel> {
        loop {
            let (shared, place) = self.place().await?;
            match shared.open().await {
                Ok(channel) => {
                    return Ok(OpenChannel { channel, connection: shared, _place: Some(Arc::new(place)) });
                }
                Err(cause) if shared.is_used_up(&cause) => shared.is_worn.store(true, Ordering::Release),
                Err(cause) if shared.connection.status().connected() => {
                    return Err(from_lapin(cause, "register"));
                }
                // The broker ends a connection that opens more channels than its user may.
                Err(cause) => {
                    let why = self.watch.why_lost().await.unwrap_or(cause);
                    return Err(from_lapin(why, "register"));
                }
            }
        }
    }

    /// Returns how many bytes the properties of a message may have.
    pub(crate) fn max_properties(&self) -> usize {
        // What a frame has beside its content.
        self.frame_max.saturating_sub(64)
    }

    async fn place(&self) -> Result<(Arc<Shared>, OwnedSemaphorePermit)> {
        let mut connections = self.connections.lock().await;
        connections.retain(|shared| !shared.end_if_useless());
        loop {
            for shared in connections.iter().filter(|shared| !shared.is_worn()) {
                if let Ok(place) = Arc::clone(&shared.room).try_acquire_owned() {
                    return Ok((Arc::clone(shared), place));
                }
            }
            connections.push(self.connect().await?);
        }
    }

    async fn connect(&self) -> Result<Arc<Shared>> {
        let connection = connect(&self.config, &self.server, &self.instance_id, self.role).await?;
        let connection = Arc::new(connection);
        let watch = self.watch.one_of_several();
        watch.follow(&connection);
        let size = match usize::from(connection.configuration().channel_max()) {
            0 => CHANNELS,
            // The connection itself counts as one, and so do those that are being closed.
            max => (max / 2).clamp(1, CHANNELS),
        };
        let room = Arc::new(Semaphore::new(size));
        Ok(Arc::new(Shared { connection, room, size, is_worn: AtomicBool::new(false), watch }))
    }

    /// Returns the connections that are open.
    pub(crate) async fn connections(&self) -> Vec<Arc<lapin::Connection>> {
        let connections = self.connections.lock().await;
        connections.iter().map(|shared| Arc::clone(&shared.connection)).collect()
    }
}

impl Shared {
    /// Opens a channel. The client gives the number again of a channel that the broker has closed, and repeats that
    /// failure for it, for ever: such numbers are passed over.
    async fn open(&self) -> lapin::Result<Channel> {
        let mut created = self.create().await;
        for _number in 0..self.connection.configuration().channel_max() {
            match &created {
                // To open a channel is never refused like this.
                Err(cause) if soft_error(cause).is_some() => created = self.create().await,
                _ => break,
            }
        }
        created
    }

    /// Asks for a channel. The client never answers who asks at the moment when the connection is lost.
    async fn create(&self) -> lapin::Result<Channel> {
        tokio::select! {
            biased;
            created = self.connection.create_channel() => created,
            () = self.watch.lost() => Err(lapin::ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()),
        }
    }

    /// Returns whether opening failed as no number is left that can be used, while others may still be in use.
    fn is_used_up(&self, cause: &lapin::Error) -> bool {
        let is_limit = matches!(cause.kind(), lapin::ErrorKind::ChannelsLimitReached);
        self.connection.status().connected() && (is_limit || soft_error(cause).is_some())
    }

    fn is_worn(&self) -> bool {
        self.is_worn.load(Ordering::Acquire)
    }

    /// Ends a connection on which no channel is, and none can be opened. Returns whether it does.
    fn end_if_useless(&self) -> bool {
        let is_useless = self.is_worn() && self.room.available_permits() == self.size;
        if is_useless {
            self.watch.end_this_one();
            let connection = Arc::clone(&self.connection);
            tokio::spawn(async move { close(&connection).await });
        }
        is_useless
    }
}
