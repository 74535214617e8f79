use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Result,
    adapter::{Connectivity, Link, Reconnect, keep_connected},
};
use rumqttc::AckMode;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Names, config::Config, error::error, options::SessionSpec, round_trips::RoundTrips,
    router::Router, session::Session, settling::until_subscribers_are_back, transport::NAME,
};

/// How many messages are on their way to the broker without its acknowledgement. The broker may allow less.
const MAX_INFLIGHT: u16 = 2_048;

/// The least time between two registrations that are looked after, so that thousands of them do not burden the broker.
const CHECK_PAUSE: Duration = Duration::from_millis(5);

/// The connection of an instance that publishes, and gets commands and answers. It is restored when it is lost.
pub(crate) struct Connection {
    pub(crate) config: Config,
    pub(crate) names: Names,
    connectivity: Connectivity,
    session: watch::Sender<Arc<Session>>,
    spec: SessionSpec,
    pub(crate) router: Router,
    /// When subscribers are back.
    pub(crate) settles: Mutex<Instant>,
    /// When the next registration may be looked after.
    next_check: Mutex<Instant>,
}

purista_core::connected!(Connection);

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link) -> Result<Arc<Self>> {
        let names = Names::new(&config.connection.prefix, &config.shares)?;
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
        let kept = keep_connected(
            Arc::downgrade(&connection),
            Arc::clone(&session),
            config.connection.max_reconnect_delay,
        );
        tokio::spawn(kept);
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

    /// Waits until a session that is lost is not the current one any more.
    pub(crate) async fn is_replaced(&self, session: &Arc<Session>) -> Result<()> {
        let mut current = self.session.subscribe();
        tokio::select! {
            _replaced = current.wait_for(|current| !Arc::ptr_eq(current, session)) => Ok(()),
            () = self.closing().cancelled() => Err(error(ErrorKind::ShutDown, "send")),
        }
    }

    /// Waits until everything is restored on the connection after a session that is lost.
    pub(crate) async fn is_restored(&self, session: &Arc<Session>) -> Result<()> {
        self.is_replaced(session).await?;
        self.ready().await
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

    fn steady_after(&self) -> Duration {
        self.config.connection.max_reconnect_delay
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
}
