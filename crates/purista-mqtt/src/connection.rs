use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    Capability, ErrorKind, Message, MessageType, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, keep_connected},
};
use rumqttc::{AckMode, PubAckReason, Publish};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Names,
    codec::{self, Headers, Reply, marker, probe, question, response},
    config::Config,
    error::{error, lost, refused},
    options::SessionSpec,
    round_trips::RoundTrips,
    router::Router,
    routes::{ANSWERS, ROUND_TRIP},
    session::{Failed, Session},
    settling::until_subscribers_are_back,
    standing::Standing,
    transport::NAME,
};

/// How many messages are on their way to the broker without its acknowledgement. The broker may allow less.
const MAX_INFLIGHT: u16 = 2_048;

/// How many messages that are kept wait for who reads them.
const KEPT_CAPACITY: usize = 1_024;

/// The least time between two registrations that are looked after, so that thousands of them do not burden the broker.
const CHECK_PAUSE: Duration = Duration::from_millis(5);

/// How long others may take to say that they are there.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How often in a row a connection is lost at once when a packet is sent until that is taken for the reason: some brokers
/// close the connection without a word for what is too large, and over WebSocket the client does not understand
/// Mosquitto's.
const SUSPICIONS: usize = 3;

/// What is at once. Others may be before it.
const SUDDEN: Duration = Duration::from_secs(5);

const NO_LIMIT: &str = "the broker closes the connection for it";

/// How long a way to the broker and back may take.
const ROUND_TRIP_PATIENCE: Duration = Duration::from_secs(10);

/// The connection of an instance that publishes, and gets commands and answers. It is restored when it is lost.
pub(crate) struct Connection {
    pub(crate) config: Config,
    pub(crate) names: Names,
    connectivity: Connectivity,
    session: watch::Sender<Arc<Session>>,
    spec: SessionSpec,
    router: Router,
    /// When subscribers are back.
    settles: Mutex<Instant>,
    /// When the next registration may be looked after.
    next_check: Mutex<Instant>,
}

impl Deref for Connection {
    type Target = Connectivity;

    fn deref(&self) -> &Connectivity {
        &self.connectivity
    }
}

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link) -> Result<Arc<Self>> {
        let names = Names::new(&config.prefix, &config.shares)?;
        let spec = SessionSpec {
            client_id: names.client(link.instance_id()),
            // What waited for a dead instance would be lost to the others.
            expiry: None,
            receive_maximum: config.receive_maximum,
            max_inflight: MAX_INFLIGHT,
            ack_mode: AckMode::Automatic,
            refused: Arc::default(),
        };
        let router = Router::new(link.clone());
        let session = Arc::new(Session::open(config, &spec, router.clone()).await?);
        let closing = CancellationToken::new();
        let connection = Arc::new(Self {
            config: config.clone(),
            names,
            connectivity: Connectivity::new(NAME, link, closing.clone()),
            session: watch::Sender::new(Arc::clone(&session)),
            spec,
            router,
            settles: Mutex::new(Instant::now()),
            next_check: Mutex::new(Instant::now()),
        });
        tokio::spawn(keep_connected(Arc::downgrade(&connection), Arc::clone(&session)));
        match connection.subscribe_all(&session).await {
            Err(_) if session.is_lost() => connection.is_restored(&session).await?,
            subscribed => subscribed?,
        }
        connection.can_share().await?;
        connection.settle().await;
        Ok(connection)
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.borrow())
    }

    /// Waits until the connection is up.
    pub(crate) async fn can_send(&self) -> Result<Arc<Session>> {
        self.ready().await?;
        Ok(self.session())
    }

    /// Publishes a message until the broker has taken it, over one connection after the other. Returns whether somebody
    /// gets it.
    pub(crate) async fn publish_until_taken(
        &self,
        message: &Message,
        headers: impl Fn() -> Headers,
        operation: &'static str,
    ) -> Result<bool> {
        let payload = message.encode();
        let mut suspicions = 0;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let session = self.can_send().await?;
            let settles = *self.settles.lock();
            // An announcement is for those who are there. While it waits, it keeps a bridge that was dropped.
            if settles > Instant::now() && message.message_type() != MessageType::InfoServiceFunctionAdded {
                // Rare, and boxed so that an emit does not carry room for it.
                Box::pin(sleep_until(settles)).await;
            }
            let sent = Instant::now();
            match session.publish(self.names.topic(message), payload.clone(), headers()).await {
                Ok(PubAckReason::Success) => return Ok(true),
                Ok(PubAckReason::NoMatchingSubscribers) => return Ok(false),
                Ok(PubAckReason::QuotaExceeded) => sleep(backoff.next_delay()).await,
                Ok(reason) => return Err(refused(reason, operation)),
                Err(Failed::Lost) => self.is_replaced(&session).await?,
                Err(Failed::Suspect { size }) => {
                    suspicions = if sent.elapsed() < SUDDEN { suspicions + 1 } else { 1 };
                    if suspicions == SUSPICIONS {
                        return Err(session.blame(size).into_error(operation).context(NO_LIMIT));
                    }
                    self.is_replaced(&session).await?;
                }
                Err(failed) => return Err(failed.into_error(operation)),
            }
        }
    }

    /// Sends an answer. One that the broker takes from nobody, as it is too large, is replaced by an error that says so.
    pub(crate) async fn answer_call(&self, answer: &Message, reply: &Reply) -> Result<()> {
        let session = self.can_send().await?;
        let sent = session.send(self.names.topic(answer), answer.encode(), response(reply)).await;
        let failed = match sent {
            Ok(()) => return Ok(()),
            Err(failed) => failed.into_error("respond"),
        };
        if let ErrorKind::PayloadTooLarge { .. } = failed.kind() {
            let instead = answer.too_large();
            let session = self.can_send().await?;
            let sent = session.send(self.names.topic(&instead), instead.encode(), response(reply)).await;
            sent.map_err(|failed| failed.into_error("respond"))?;
        }
        Err(failed)
    }

    /// Makes sure that shared subscriptions get what they ask for: Mosquitto takes them behind a mount point, and delivers
    /// nothing.
    async fn can_share(&self) -> Result<()> {
        let topic = format!("{}-shared", self.names.round_trip(&self.spec.client_id));
        let filter = format!("$share/{}/{topic}", self.spec.client_id);
        let session = self.session();
        session.subscribe(std::slice::from_ref(&filter), Some(ROUND_TRIP)).await?;
        let (number, back) = self.router.round_trips().begin();
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        let has_taker = session.publish_once(topic, number, probe(), "start").await?;
        let came = has_taker && timeout(ANSWER_PATIENCE, back).await.is_ok();
        session.unsubscribe(&filter).await?;
        if came || session.is_lost() {
            return Ok(());
        }
        let kind = ErrorKind::Unsupported(Capability::SharedSubscriptions);
        Err(error(kind, "start")
            .context("shared subscriptions get nothing: is it the listener's mount_point?"))
    }

    /// Waits until a session that is lost is not the current one any more.
    async fn is_replaced(&self, session: &Arc<Session>) -> Result<()> {
        let mut current = self.session.subscribe();
        tokio::select! {
            _replaced = current.wait_for(|current| !Arc::ptr_eq(current, session)) => Ok(()),
            () = self.closing().cancelled() => Err(error(ErrorKind::ShutDown, "send")),
        }
    }

    /// Waits until everything is restored on the connection after a session that is lost.
    async fn is_restored(&self, session: &Arc<Session>) -> Result<()> {
        self.is_replaced(session).await?;
        self.ready().await
    }

    /// Subscribes for somebody; returns when the broker routes to us.
    pub(crate) async fn subscribe(
        &self,
        filters: &[String],
        to: &mpsc::Sender<Publish>,
        standing: Option<&Standing>,
    ) -> Result<()> {
        for filter in filters {
            let id = self.router.routes().add(filter, to.clone(), standing);
            let session = self.session();
            let subscribed = match session.subscribe(std::slice::from_ref(filter), Some(id)).await {
                Err(_) if session.is_lost() => self.is_restored(&session).await,
                subscribed => subscribed,
            };
            if subscribed.is_err() {
                self.unsubscribe(filters, to).await;
                return subscribed;
            }
        }
        Ok(())
    }

    /// Subscribes again to what is subscribed to.
    pub(crate) async fn subscribe_again(&self, session: &Session, filters: &[String]) -> Result<()> {
        for filter in filters {
            if let Some(id) = self.router.routes().id_of(filter) {
                session.subscribe(std::slice::from_ref(filter), Some(id)).await?;
            }
        }
        Ok(())
    }

    /// Listens to what it sends to itself to find out what it may read. Returns whether that is allowed.
    pub(crate) async fn listens_to_echoes(&self, session: &Session) -> bool {
        let echoes = self.names.echoes(&self.spec.client_id);
        session.subscribe_to_echoes(echoes, Some(ROUND_TRIP)).await.is_ok()
    }

    /// Returns what comes back of what it sends to itself.
    pub(crate) fn round_trips(&self) -> &RoundTrips {
        self.router.round_trips()
    }

    /// Returns the id of its client at the broker.
    pub(crate) fn client_id(&self) -> &str {
        &self.spec.client_id
    }

    /// Waits until it is somebody's turn to look after a registration.
    pub(crate) async fn check_turn(&self) {
        let turn = {
            let mut next = self.next_check.lock();
            let turn = (*next).max(Instant::now());
            *next = turn + CHECK_PAUSE;
            turn
        };
        sleep_until(turn).await;
    }

    /// Ends the subscriptions of somebody; returns when everything has arrived that the broker had routed to them. It must
    /// be received meanwhile.
    pub(crate) async fn unsubscribe(&self, filters: &[String], to: &mpsc::Sender<Publish>) {
        let session = self.session();
        let end = async {
            for filter in filters.iter().filter(|filter| self.router.routes().is_last(filter, to)) {
                session.unsubscribe(filter).await?;
            }
            self.round_trip().await
        };
        if let Err(error) = end.await {
            // A lost connection has no subscriptions.
            tracing::debug!(%error, "a subscription could not be ended");
        }
        self.router.routes().remove(to);
    }

    /// Reads what is kept under topics.
    pub(crate) async fn kept(&self, filter: &str) -> Result<Vec<Publish>> {
        let (to, mut came) = mpsc::channel(KEPT_CAPACITY);
        let id = self.router.routes().add(filter, to.clone(), None);
        let mut kept = Vec::new();
        let read = {
            let read = async {
                self.session().subscribe_to_kept(filter.to_owned(), id).await?;
                self.round_trip().await
            };
            tokio::pin!(read);
            loop {
                tokio::select! {
                    Some(publish) = came.recv() => kept.push(publish),
                    read = &mut read => break read,
                }
            }
        };
        while let Ok(publish) = came.try_recv() {
            kept.push(publish);
        }
        drop(came);
        self.unsubscribe(&[filter.to_owned()], &to).await;
        read.map(|()| kept)
    }

    /// Waits until everything has arrived that the broker had for us before.
    pub(crate) async fn round_trip(&self) -> Result<()> {
        let (number, back) = self.router.round_trips().begin();
        let topic = self.names.round_trip(&self.spec.client_id);
        let session = self.session();
        session.publish_once(topic, Bytes::copy_from_slice(&number.to_be_bytes()), marker(), "send").await?;
        tokio::select! {
            back = timeout(ROUND_TRIP_PATIENCE, back) => match back {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(lost("send")),
            },
            () = session.lost() => Err(lost("send")),
        }
    }

    /// Asks those who listen to a topic whether they are there, and whether they listen to the same; returns what the first
    /// one answers. That the broker has somebody for it says little: others may listen to everything.
    pub(crate) async fn ask(&self, topic: String, listens_to: Option<&str>) -> Result<Option<bool>> {
        let (number, back) = self.router.round_trips().begin();
        let headers = question(self.names.round_trip(&self.spec.client_id), listens_to);
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        if !self.session().publish_once(topic, number, headers, "ask").await? {
            return Ok(None);
        }
        Ok(timeout(ANSWER_PATIENCE, back).await.ok().and_then(Result::ok))
    }

    /// Answers somebody who asks whether we are there.
    pub(crate) async fn answer(&self, question: &Publish, listens_to: &str) {
        let topic = question.properties.as_ref().and_then(|properties| properties.response_topic.clone());
        let Some(topic) = topic.filter(|topic| self.names.is_round_trip(topic)) else { return };
        let mut answer = question.payload.to_vec();
        if codec::listens_to(question).is_some_and(|other| other != listens_to) {
            answer.push(0);
        }
        // Who asks goes on without an answer.
        let _lost = self.session().send(topic, answer.into(), probe()).await;
    }

    async fn subscribe_all(&self, session: &Session) -> Result<()> {
        session.subscribe(&self.names.answers(self.link().instance_id()), Some(ANSWERS)).await?;
        session.subscribe(&[self.names.round_trip(&self.spec.client_id)], Some(ROUND_TRIP)).await?;
        self.listens_to_echoes(session).await;
        for (id, filter) in self.router.routes().filters() {
            match session.subscribe(std::slice::from_ref(&filter), Some(id)).await {
                // The others need not suffer for it. It is tried again.
                Err(error) if !session.is_lost() => {
                    tracing::warn!(%error, filter, "a subscription is refused");
                    self.router.routes().refused(id);
                }
                subscribed => subscribed?,
            }
            // Who wanted it may have gone meanwhile.
            if !self.router.routes().is_wanted(id) {
                session.unsubscribe(&filter).await?;
            }
        }
        Ok(())
    }

    async fn settle(&self) {
        match until_subscribers_are_back(self).await {
            Ok(wait) => *self.settles.lock() = Instant::now() + wait,
            Err(error) => tracing::debug!(%error, "it is not known whether the broker was restarted"),
        }
    }

    /// Sends what is under way, and disconnects.
    pub(crate) async fn close(&self) {
        // Also when this is dropped half-way.
        let _closing = self.closing().clone().drop_guard();
        if self.is_up() {
            // The client ends the connection before it has sent all that waits for its turn.
            if let Err(error) = self.round_trip().await {
                tracing::debug!(%error, "not all was sent");
            }
            self.closing().cancel();
            self.session().disconnect(true).await;
        }
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

    fn steady_after(&self) -> Duration {
        self.config.max_reconnect_delay
    }

    async fn restore(&self) -> Result<Arc<Session>> {
        let session = Arc::new(Session::open(&self.config, &self.spec, self.router.clone()).await?);
        // What is registered from now on subscribes there itself.
        self.session.send_replace(Arc::clone(&session));
        self.subscribe_all(&session).await?;
        self.settle().await;
        Ok(session)
    }

    async fn lost(session: &Session) -> String {
        session.lost().await;
        session.reason()
    }

    fn is_lost(session: &Session) -> bool {
        session.is_lost()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}
