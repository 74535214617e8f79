use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use lapin::{protocol::AMQPSoftError, types::ShortString};
use parking_lot::{Mutex, RwLock};
use purista_core::{
    Error, ErrorKind, Message, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, keep_connected},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    attach::{count, declare_queue},
    audit::{Audited, keep_whole},
    codec::Reply,
    config::Config,
    error::{error, from_lapin, soft_error},
    outlet::Way,
    publisher::{Confirm, Post},
    replies::Replies,
    session::Session,
    topology::{QueueSpec, Route, Topology},
    transport::NAME,
    turn::Turn,
};

/// How many registrations are restored at once.
const RESTORED_AT_ONCE: usize = 8;

/// A connection to the broker that comes back when it is lost.
pub(crate) struct Connection {
    pub(crate) config: Config,
    pub(crate) topology: Topology,
    pub(crate) dead_letters: QueueSpec,
    connectivity: Connectivity,
    live: RwLock<Live>,
    /// Why nothing can be sent although the connection is up.
    trouble: watch::Sender<Option<Error>>,
    /// Why the last try to connect again was refused for good.
    refusal: Mutex<Option<Error>>,
    audited: Mutex<Vec<Weak<dyn Audited>>>,
    /// Asks to look at the broker now.
    pub(crate) look: Arc<Notify>,
    uses_dead_letters: AtomicBool,
}

#[derive(Clone, Debug)]
struct Live {
    session: Arc<Session>,
    replies: Arc<Replies>,
}

purista_core::connected!(Connection);

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
            trouble: watch::Sender::new(None),
            refusal: Mutex::default(),
            audited: Mutex::default(),
            look: Arc::default(),
            uses_dead_letters: AtomicBool::new(false),
        });
        let session = connection.session();
        tokio::spawn(keep_connected(
            Arc::downgrade(&connection),
            session,
            config.connection.max_reconnect_delay,
        ));
        tokio::spawn(keep_whole(Arc::downgrade(&connection)));
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
            if let Some(session) = self.sendable() {
                return Ok(session);
            }
            let (session, mut trouble) = (self.session(), self.trouble.subscribe());
            tokio::select! {
                () = async {
                    session.unblocked().await;
                    // The sender lives as long as this.
                    drop(trouble.wait_for(|trouble| !keeps_from_sending(trouble.as_ref())).await);
                } => {}
                () = session.lost() => {}
            }
        }
    }

    /// Waits until a message can be sent, or until there is no time left for it. Cancel safe.
    pub(crate) async fn can_send_by(
        &self,
        deadline: Instant,
        operation: &'static str,
    ) -> Result<Arc<Session>> {
        if let Some(session) = self.sendable().filter(|_| self.is_up()) {
            return Ok(session);
        }
        let too_late =
            |_| Err(self.refusal(operation).unwrap_or_else(|| error(ErrorKind::Timeout, operation)));
        timeout_at(deadline, self.can_send()).await.unwrap_or_else(too_late)
    }

    fn sendable(&self) -> Option<Arc<Session>> {
        let is_open = !keeps_from_sending(self.trouble.borrow().as_ref());
        is_open.then(|| self.session()).filter(|session| !session.is_blocked())
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
                    Ok(Confirm::Taken) => return Ok(()),
                    Ok(Confirm::Returned(_)) => return Err(error(ErrorKind::Unroutable, "emit")),
                    Ok(Confirm::Refused) => has_no_room = true,
                    Ok(Confirm::NoExchange) => self.look.notify_one(),
                    Err(cause) if cause.kind() == ErrorKind::Unavailable => {}
                    Err(cause) => return Err(cause),
                }
                sleep(backoff.next_delay()).await;
            }
        };
        match timeout_at(deadline, taken).await {
            Ok(taken) => taken,
            Err(_) if has_no_room || self.session().is_blocked() => {
                Err(error(ErrorKind::Backpressure, "emit").with_context("the broker has no room"))
            }
            Err(_) => Err(self.refusal("emit").unwrap_or_else(|| error(ErrorKind::Timeout, "emit"))),
        }
    }

    /// Publishes to one queue, and returns whether it is there.
    pub(crate) async fn publish_to_queue(&self, route: Route, payload: Bytes) -> Result<bool> {
        let session = self.can_send().await?;
        match session.outlet.publish(Way::OneByOne, Post { route, payload, mandatory: true }).await? {
            Confirm::Taken => Ok(true),
            Confirm::Returned(_) => Ok(false),
            Confirm::NoExchange => {
                self.look.notify_one();
                Ok(false)
            }
            Confirm::Refused => {
                Err(error(ErrorKind::Backpressure, "send").with_context("the queue has no room"))
            }
        }
    }

    /// Returns why nothing can be sent, if that is for good unless somebody changes something.
    pub(crate) fn refusal(&self, operation: &'static str) -> Option<Error> {
        let cause = self.trouble.borrow().clone().or_else(|| self.refusal.lock().clone())?;
        (!cause.kind().is_temporary())
            .then(|| error(cause.kind(), operation).with_context(cause.to_string()).with_source(cause))
    }

    /// Notes why nothing can be sent, or not as it should be, although the connection is up.
    pub(crate) fn in_trouble(&self, why: &Error) {
        let before = self.trouble.send_replace(Some(why.clone()));
        if before.is_none_or(|before| before.kind() != why.kind()) {
            tracing::warn!(%why, "not healthy");
            self.link().disconnected(why.to_string());
        }
    }

    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.borrow().is_some()
    }

    /// Returns whether all the trouble is that the broker takes or tells nothing at the moment.
    pub(crate) fn is_slow(&self) -> bool {
        self.trouble.borrow().as_ref().is_some_and(is_slow)
    }

    pub(crate) fn out_of_trouble(&self) {
        if self.trouble.send_replace(None).is_some() && self.is_up() {
            self.link().connected();
        }
    }

    /// Looks after something that consumes, as long as it is there.
    pub(crate) fn keep_audited(&self, what: Weak<dyn Audited>) {
        let mut audited = self.audited.lock();
        audited.retain(|known| known.strong_count() > 0);
        audited.push(what);
    }

    /// Returns what consumes.
    pub(crate) fn audited(&self) -> Vec<Arc<dyn Audited>> {
        let replies: Arc<dyn Audited> = Arc::clone(&self.live.read().replies) as Arc<dyn Audited>;
        let registered = self.audited.lock();
        std::iter::once(replies).chain(registered.iter().filter_map(Weak::upgrade)).collect()
    }

    /// Declares the queue of dead letters again if it is gone and somebody needs it.
    pub(crate) async fn keep_dead_letter_queue(&self, session: &Session) -> Result<()> {
        match self.uses_dead_letters.load(Ordering::Acquire) {
            true => self.declare_dead_letters(session).await,
            false => Ok(()),
        }
    }

    /// Declares the queue of dead letters. One that is there keeps the options that it has.
    pub(crate) async fn declare_dead_letters(&self, session: &Session) -> Result<()> {
        self.uses_dead_letters.store(true, Ordering::Release);
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

    /// Returns whether dead letters can be delivered as often as anybody likes: where the queue is as we declare
    /// it, or is not there.
    pub(crate) async fn dead_letters_have_our_limit(&self, session: &Session) -> Result<bool> {
        if count(session, &self.dead_letters.name).await?.is_none() {
            return Ok(true);
        }
        let channel = session.channel().await?;
        match declare_queue(&channel, &self.dead_letters).await {
            Ok(()) => Ok(true),
            Err(cause)
                if matches!(
                    soft_error(&cause),
                    Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED)
                ) =>
            {
                Ok(false)
            }
            Err(cause) => Err(from_lapin(cause, "dead letters")),
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

    async fn restore(&self) -> Result<Arc<Session>> {
        let live = match Live::open(&self.config, &self.topology, self.link()).await {
            Ok(live) => live,
            Err(error) => {
                *self.refusal.lock() = Some(error.clone());
                return Err(error);
            }
        };
        *self.refusal.lock() = None;
        self.trouble.send_replace(None);
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
}

/// Returns whether nothing should be sent. That the broker reads nothing is told by the connection itself, sooner.
fn keeps_from_sending(trouble: Option<&Error>) -> bool {
    trouble.is_some_and(|trouble| !is_slow(trouble))
}

fn is_slow(trouble: &Error) -> bool {
    matches!(trouble.kind(), ErrorKind::Backpressure | ErrorKind::Timeout)
}

impl Live {
    async fn open(config: &Config, topology: &Topology, link: &Link) -> Result<Self> {
        let session = Arc::new(Session::open(config, topology, link.instance_id()).await?);
        let replies = Arc::new(Replies::open(&session, topology, link.clone()).await?);
        Ok(Self { session, replies })
    }
}
