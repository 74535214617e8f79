use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, keep_connected},
};
use rumqttc::{AckMode, PubAckReason, Publish, PublishOptions};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Names,
    codec::{marker, probe, question},
    config::Config,
    error::{error, lost, refused},
    options::SessionSpec,
    router::Router,
    routes::{ANSWERS, ROUND_TRIP},
    session::{Failed, Session},
    settling::until_subscribers_are_back,
    transport::NAME,
};

/// How many messages are on their way to the broker without its acknowledgement. The broker may allow less.
const MAX_INFLIGHT: u16 = 2_048;

/// How many messages that are kept wait for who reads them.
const KEPT_CAPACITY: usize = 1_024;

/// How long others may take to say that they are there.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

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
}

impl Deref for Connection {
    type Target = Connectivity;

    fn deref(&self) -> &Connectivity {
        &self.connectivity
    }
}

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link) -> Result<Arc<Self>> {
        let names = Names::new(&config.prefix);
        let spec = SessionSpec {
            client_id: names.client(link.instance_id()),
            // What waited for a dead instance would be lost to the others.
            expiry: None,
            receive_maximum: config.receive_maximum,
            max_inflight: MAX_INFLIGHT,
            ack_mode: AckMode::Automatic,
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
        });
        tokio::spawn(keep_connected(Arc::downgrade(&connection), Arc::clone(&session)));
        match connection.subscribe_all(&session).await {
            Err(_) if session.is_lost() => connection.is_restored(&session).await?,
            subscribed => subscribed?,
        }
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
        options: impl Fn() -> PublishOptions,
        operation: &'static str,
    ) -> Result<bool> {
        let payload = message.encode();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let session = self.can_send().await?;
            let settles = *self.settles.lock();
            if settles > Instant::now() {
                // Rare, and boxed so that an emit does not carry room for it.
                Box::pin(sleep_until(settles)).await;
            }
            match session.publish(self.names.topic(message), payload.clone(), options()).await {
                Ok(PubAckReason::Success) => return Ok(true),
                Ok(PubAckReason::NoMatchingSubscribers) => return Ok(false),
                Ok(PubAckReason::QuotaExceeded) => sleep(backoff.next_delay()).await,
                Ok(reason) => return Err(refused(reason, operation)),
                Err(Failed::Lost) => self.is_replaced(&session).await?,
                Err(failed) => return Err(failed.into_error(operation)),
            }
        }
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
    pub(crate) async fn subscribe(&self, filters: &[String], to: &mpsc::Sender<Publish>) -> Result<()> {
        for filter in filters {
            let id = self.router.routes().add(filter, to.clone());
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
        let id = self.router.routes().add(filter, to.clone());
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
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(lost("send")),
            },
            () = session.lost() => Err(lost("send")),
        }
    }

    /// Asks those who listen to a topic whether they are there; returns whether one of them answers. That the broker has
    /// somebody for it says little: others may listen to everything.
    pub(crate) async fn is_answered(&self, topic: String) -> Result<bool> {
        let (number, back) = self.router.round_trips().begin();
        let options = question(self.names.round_trip(&self.spec.client_id));
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        Ok(self.session().publish_once(topic, number, options, "ask").await?
            && matches!(timeout(ANSWER_PATIENCE, back).await, Ok(Ok(()))))
    }

    /// Answers somebody who asks whether we are there.
    pub(crate) async fn answer(&self, question: &Publish) {
        let topic = question.properties.as_ref().and_then(|properties| properties.response_topic.clone());
        if let Some(topic) = topic.filter(|topic| self.names.is_round_trip(topic)) {
            // Who asks goes on without an answer.
            let _lost = self.session().send(topic, question.payload.clone(), probe()).await;
        }
    }

    async fn subscribe_all(&self, session: &Session) -> Result<()> {
        session.subscribe(&self.names.answers(self.link().instance_id()), Some(ANSWERS)).await?;
        session.subscribe(&[self.names.round_trip(&self.spec.client_id)], Some(ROUND_TRIP)).await?;
        for (id, filter) in self.router.routes().filters() {
            session.subscribe(std::slice::from_ref(&filter), Some(id)).await?;
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
