use std::{ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::try_join_all;
use lapin::{protocol::AMQPSoftError, types::ShortString};
use parking_lot::RwLock;
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, keep_connected},
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    attach::{count, declare_queue},
    codec::Reply,
    config::Config,
    error::{error, from_lapin, soft_error},
    outlet::Way,
    publisher::{Post, Verdict},
    replies::Replies,
    session::Session,
    topology::{QueueSpec, Route, Topology},
    transport::NAME,
    turn::Turn,
};

/// How many registrations are restored at once.
const RESTORED_AT_ONCE: usize = 8;

/// A connection to the broker that comes back when it is lost.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) config: Config,
    pub(crate) topology: Topology,
    pub(crate) dead_letters: QueueSpec,
    connectivity: Connectivity,
    live: RwLock<Live>,
}

#[derive(Clone, Debug)]
struct Live {
    session: Arc<Session>,
    replies: Arc<Replies>,
}

impl Deref for Connection {
    type Target = Connectivity;

    fn deref(&self) -> &Connectivity {
        &self.connectivity
    }
}

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link) -> Result<Arc<Self>> {
        let topology = Topology::new(config);
        let live = Live::open(config, &topology, &link).await?;
        let connectivity = Connectivity::new(NAME, link, CancellationToken::new());
        let connection = Arc::new(Self {
            dead_letters: topology.dead_letters(config),
            config: config.clone(),
            topology,
            connectivity,
            live: RwLock::new(live),
        });
        let session = connection.session();
        tokio::spawn(keep_connected(Arc::downgrade(&connection), session));
        Ok(connection)
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.live.read().session)
    }

    /// Returns the queue of responses to this instance.
    pub(crate) fn reply_queue(&self) -> ShortString {
        self.live.read().replies.queue.clone()
    }

    /// Waits until a message can be sent. Cancel safe.
    pub(crate) async fn can_send(&self) -> Result<Arc<Session>> {
        loop {
            self.ready().await?;
            let session = self.session();
            if !session.is_blocked() {
                return Ok(session);
            }
            tokio::select! {
                () = session.unblocked() => {}
                () = session.lost() => {}
            }
        }
    }

    /// Publishes a message until the broker takes it, over as many connections as that needs.
    pub(crate) async fn publish_until_taken(
        &self,
        message: &Message,
        reply: &Reply,
        must_route: bool,
        deadline: Instant,
    ) -> Result<()> {
        let route = self.topology.route(message, reply);
        let payload = message.encode();
        let way = match (must_route, message.message_type().is_response()) {
            (true, _) => Way::OneByOne,
            (false, true) => Way::Responses,
            (false, false) => Way::Events,
        };
        let mut has_no_room = false;
        let taken = async {
            let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
            loop {
                let session = self.can_send().await?;
                let post = Post { route: route.clone(), payload: payload.clone(), mandatory: must_route };
                match session.outlet.publish(way, post).await {
                    Ok(Verdict::Taken) => return Ok(()),
                    Ok(Verdict::Returned(_)) => return Err(error(ErrorKind::Unroutable, "emit")),
                    Ok(Verdict::Refused) => has_no_room = true,
                    Ok(Verdict::NoExchange) => {}
                    Err(cause) if cause.kind() == ErrorKind::Unavailable => {}
                    Err(cause) => return Err(cause),
                }
                sleep(backoff.next_delay()).await;
            }
        };
        match timeout_at(deadline, taken).await {
            Ok(taken) => taken,
            Err(_) if has_no_room || self.session().is_blocked() => {
                Err(error(ErrorKind::Backpressure, "emit").context("the broker has no room"))
            }
            Err(_) => Err(error(ErrorKind::Timeout, "emit")),
        }
    }

    /// Publishes to one queue, and returns whether it is there.
    pub(crate) async fn publish_to_queue(&self, route: Route, payload: Bytes) -> Result<bool> {
        let session = self.can_send().await?;
        match session.outlet.publish(Way::OneByOne, Post { route, payload, mandatory: true }).await? {
            Verdict::Taken => Ok(true),
            Verdict::Returned(_) | Verdict::NoExchange => Ok(false),
            Verdict::Refused => Err(error(ErrorKind::Backpressure, "send").context("the queue has no room")),
        }
    }

    /// Declares the queue of dead letters. One that is there keeps the options that it has.
    pub(crate) async fn declare_dead_letters(&self, session: &Session) -> Result<()> {
        if count(session, &self.dead_letters.name).await?.is_some() {
            return Ok(());
        }
        // RabbitMQ 3.10 may fail when a quorum queue is declared several times at once.
        let _turn = Turn::take(session, self.topology.turn(self.dead_letters.name.as_str())).await?;
        let channel = session.channel().await?;
        match declare_queue(&channel, &self.dead_letters).await {
            Err(cause) if soft_error(&cause) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
                tracing::debug!(%cause, "the queue of dead letters has other options");
                Ok(())
            }
            declared => declared.map_err(|cause| from_lapin(cause, "register")),
        }
    }

    /// Sends what is under way and disconnects.
    pub(crate) async fn close(&self) {
        self.closing().cancel();
        self.session().close().await;
    }
}

impl Reconnect for Connection {
    type Session = Session;

    fn connectivity(&self) -> &Connectivity {
        &self.connectivity
    }

    fn max_reconnect_delay(&self) -> Duration {
        self.config.max_reconnect_delay
    }

    async fn restore(&self) -> Result<Arc<Session>> {
        let live = Live::open(&self.config, &self.topology, self.link()).await?;
        let session = Arc::clone(&live.session);
        *self.live.write() = live;
        let mut was_forgotten = false;
        for some in self.restored().chunks(RESTORED_AT_ONCE) {
            let restored = try_join_all(some.iter().map(|what| what.restore())).await?;
            was_forgotten |= restored.contains(&true);
        }
        if was_forgotten {
            self.link().session_lost();
        }
        Ok(session)
    }

    async fn lost(session: &Session) -> String {
        session.lost().await;
        "the connection to the broker was lost".to_owned()
    }

    fn is_lost(session: &Session) -> bool {
        session.is_lost()
    }
}

impl Live {
    async fn open(config: &Config, topology: &Topology, link: &Link) -> Result<Self> {
        let session = Arc::new(Session::open(config, topology, link.instance_id()).await?);
        let replies = Arc::new(Replies::open(&session, topology, link.clone()).await?);
        Ok(Self { session, replies })
    }
}
