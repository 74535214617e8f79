use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use purista_cloudevents::Server;
use purista_core::{
    ErrorKind, MAX_TIMEOUT, Message, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, Throttle, keep_connected},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app_channel::App,
    cloud_event::{self, Destination},
    component_health::ComponentHealth,
    config::Config,
    error::error,
    routes::Routes,
    session::Session,
    sidecar::{Failure, Metadata, Reach, Sidecar},
    transport::NAME,
};

/// How long before the end of its time limit a caller is told why an event was not taken.
const LAST_WORD: Duration = Duration::from_millis(20);

/// The sidecar beside this process, as long as the bridge runs.
pub(crate) struct Connection {
    connectivity: Connectivity,
    pub(crate) config: Config,
    pub(crate) sidecar: Sidecar,
    pub(crate) app_id: String,
    pub(crate) component_type: Option<String>,
    app_port: Option<u16>,
    pub(crate) routes: Arc<Routes>,
    channel: Mutex<Option<Server>>,
    /// Asks for a look at the sidecar, as a request got no answer.
    suspicion: Arc<Notify>,
    /// Copies for the topic of all messages that nobody waits for.
    copies: TaskTracker,
    /// For those of them that fail.
    throttle: Throttle,
    component: Arc<ComponentHealth>,
}

purista_core::connected!(Connection);

impl Connection {
    /// Finds the sidecar.
    pub(crate) async fn open(config: &Config, sidecar: &Sidecar, link: Link) -> Result<Arc<Self>> {
        let metadata = found(config, sidecar).await?;
        let wrong = |context: String| Err(error(ErrorKind::InvalidConfig, "start").with_context(context));
        if let Some(reason) = metadata.unusable() {
            return wrong(reason);
        }
        if let Some(app_id) = config.app_id.as_ref().filter(|app_id| **app_id != metadata.app_id) {
            return wrong(format!("the sidecar's app id is {}, and not {app_id}", metadata.app_id));
        }
        let component_type = metadata.component_type(&config.pubsub_name).map(str::to_owned);
        if config.component_type.is_some() && config.component_type != component_type {
            let kind = component_type.as_deref().unwrap_or("missing");
            return wrong(format!("the type of the component {} is {kind}", config.pubsub_name));
        }
        Ok(Arc::new(Self {
            connectivity: Connectivity::new(NAME, link, CancellationToken::new()),
            config: config.clone(),
            sidecar: sidecar.clone(),
            app_port: metadata.app_port(),
            app_id: metadata.app_id,
            component_type,
            routes: Arc::default(),
            channel: Mutex::new(None),
            suspicion: Arc::default(),
            copies: TaskTracker::new(),
            throttle: Throttle::default(),
            component: Arc::default(),
        }))
    }

    /// Opens the app channel, upon which the sidecar asks what to subscribe to, and waits until it has.
    pub(crate) async fn serve(self: &Arc<Self>) -> Result<()> {
        let Some(port) = self.app_port else {
            if self.routes.is_empty() {
                self.watch();
                return Ok(());
            }
            let context = "the sidecar has no app: it needs an --app-port to deliver something";
            return Err(error(ErrorKind::InvalidConfig, "start").with_context(context));
        };
        let address = self.config.app_address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into());
        let (routes, link) = (Arc::clone(&self.routes), self.link().clone());
        let app = App { routes, link, config: self.config.clone() };
        *self.channel.lock() = Some(app.open(address).await?);
        let end = Instant::now() + self.config.connect_timeout.min(MAX_TIMEOUT);
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
        loop {
            let error = match self.session().await {
                Ok(_) => break,
                Err(failure) => failure.into_error("start"),
            };
            if Instant::now() >= end || !error.kind().is_temporary() {
                return Err(error);
            }
            sleep(backoff.next_delay()).await;
        }
        self.watch();
        Ok(())
    }

    fn watch(self: &Arc<Self>) {
        let session = Arc::new(self.watched());
        tokio::spawn(keep_connected(Arc::downgrade(self), session, self.config.max_reconnect_delay));
    }

    fn watched(&self) -> Session {
        Session {
            sidecar: self.sidecar.clone(),
            app_id: self.app_id.clone(),
            pubsub_name: self.config.pubsub_name.clone(),
            component_type: self.component_type.clone(),
            topics: self.routes.topics(),
            has_app: self.app_port.is_some(),
            routes: Arc::clone(&self.routes),
            component: Arc::clone(&self.component),
            health_topic: self.config.health_topic(self.component_type.as_deref()).map(str::to_owned),
            keep_alive: self.config.keep_alive,
            suspicion: Arc::clone(&self.suspicion),
        }
    }

    /// Returns a session if the sidecar has subscribed to all, and reaches us.
    async fn session(&self) -> Result<Session, Failure> {
        let fails = |kind, context: String| Err(Failure::Refused(error(kind, "start").with_context(context)));
        let session = self.watched();
        // First, as what it has subscribed to is complete then.
        let is_ready = self.sidecar.is_ready().await?;
        let metadata = self.sidecar.metadata().await?;
        if metadata.app_id != self.app_id {
            return fails(
                ErrorKind::InvalidConfig,
                format!("the sidecar's app id is {} now", metadata.app_id),
            );
        }
        // First what no waiting helps against.
        let reach = match self.app_port {
            Some(_) => self.sidecar.reach(&self.app_id).await?,
            None => Reach::Reached,
        };
        let unreached = match reach {
            Reach::Reached => None,
            Reach::Unreached(error) if error.kind().is_temporary() => Some(error),
            Reach::Unreached(error) => return Err(Failure::Refused(error)),
            // Nobody finds what is served, either.
            Reach::Unknown(error)
                if error.kind() == ErrorKind::InvalidConfig && self.routes.has_commands() =>
            {
                return Err(Failure::Refused(error));
            }
            Reach::Unknown(error) => {
                tracing::debug!(%error, "whether the sidecar reaches us cannot be told");
                None
            }
        };
        if let Some(missing) = session.missing(&metadata) {
            return fails(ErrorKind::Unavailable, missing);
        }
        if !is_ready {
            return fails(ErrorKind::Unavailable, "the sidecar is not ready".to_owned());
        }
        unreached.map_or(Ok(session), |error| Err(Failure::Refused(error)))
    }

    /// Has a look at the sidecar, as a request got no answer.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Publishes a message to each of its topics; again, as long as the caller waits, if a connection is lost or the
    /// component does not take it at this moment.
    pub(crate) async fn publish(
        &self,
        message: &Message,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<()> {
        if message.event_name.is_none() && self.config.all_messages_topic.is_none() {
            return Ok(());
        }
        let envelope = message.encode();
        let event = message.event_name.as_ref().map(|name| self.topic(name));
        let for_one = async {
            match &event {
                Some(topic) => {
                    let event = cloud_event::cloud_event(message, &envelope, self.destination(topic, false));
                    self.publish_until_taken(topic, event, operation, deadline).await
                }
                None => Ok(()),
            }
        };
        let for_all = async {
            match &self.config.all_messages_topic {
                Some(topic) => {
                    let event = cloud_event::cloud_event(message, &envelope, self.destination(topic, true));
                    self.publish_until_taken(topic, event, operation, deadline).await
                }
                None => Ok(()),
            }
        };
        tokio::try_join!(for_one, for_all).map(drop)
    }

    async fn publish_until_taken(
        &self,
        topic: &str,
        event: Bytes,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            self.ready().await?;
            let failed = match self.sidecar.publish(topic, event.clone(), operation).await {
                Ok(()) => {
                    self.component.works();
                    return Ok(());
                }
                Err(Failure::Lost(reason)) => {
                    self.suspect();
                    error(ErrorKind::Unavailable, operation).with_context(reason)
                }
                // A sidecar that ends closes its components before it stops to answer.
                Err(Failure::Refused(error))
                    if error.kind() == ErrorKind::InvalidConfig && self.component_type.is_some() =>
                {
                    self.suspect();
                    error
                }
                Err(Failure::Refused(error)) if error.kind().is_temporary() => {
                    self.component.fails(error.to_string());
                    error
                }
                Err(Failure::Refused(error)) => return Err(error),
            };
            tracing::debug!(error = %failed, "an event is published again");
            let again = Instant::now() + backoff.next_delay();
            match deadline.map(|deadline| deadline - LAST_WORD) {
                // Who waits is told why, and not only that its time is over.
                Some(last) if last <= again => {
                    sleep_until(last).await;
                    return Err(failed);
                }
                _ => sleep_until(again).await,
            }
        }
    }

    /// Returns the topic of an event.
    pub(crate) fn topic(&self, event_name: &str) -> String {
        self.config.topic(event_name, self.component_type.as_deref())
    }

    /// Returns what a CloudEvent says of where it comes from and goes to.
    pub(crate) fn destination<'a>(&'a self, topic: &'a str, is_for_all: bool) -> Destination<'a> {
        Destination { source: &self.app_id, pubsub_name: &self.config.pubsub_name, topic, is_for_all }
    }

    /// Lets subscriptions to everything see a message that does not travel by a topic itself.
    pub(crate) fn copy_for_all(self: &Arc<Self>, message: &Arc<Message>, deadline: Instant) {
        if self.config.all_messages_topic.is_none() {
            return;
        }
        let (connection, message) = (Arc::clone(self), Arc::clone(message));
        self.copies.spawn(async move {
            let closing = connection.closing();
            tokio::select! {
                () = closing.cancelled() => {}
                published = timeout_at(deadline, connection.publish(&message, "invoke", Some(deadline))) => {
                    let late = |_| Err(error(ErrorKind::Timeout, "invoke"));
                    if let Err(error) = published.unwrap_or_else(late) {
                        connection.throttle.log(|suppressed| {
                            tracing::warn!(%error, suppressed, "no subscription sees a command");
                        });
                    }
                }
            }
        });
    }

    /// Ends it, after what is under way.
    pub(crate) async fn close(&self) {
        // Also when this is dropped half-way.
        let _closing = self.closing().clone().drop_guard();
        self.copies.close();
        if self.is_up() {
            self.copies.wait().await;
        }
        let channel = self.channel.lock().take();
        if let Some(channel) = channel {
            channel.close().await;
        }
    }
}

/// Asks the sidecar who it is; while it is not there yet, again until the time is over.
async fn found(config: &Config, sidecar: &Sidecar) -> Result<Metadata> {
    let end = Instant::now() + config.connect_timeout.min(MAX_TIMEOUT);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match sidecar.metadata().await {
            Ok(metadata) => return Ok(metadata),
            Err(Failure::Lost(reason)) if Instant::now() < end => {
                tracing::debug!(reason, "no sidecar yet");
                sleep(backoff.next_delay().min(end.saturating_duration_since(Instant::now()))).await;
            }
            Err(failure) => return Err(failure.into_error("start")),
        }
    }
}

impl Reconnect for Connection {
    type Session = Session;

    async fn restore(&self) -> Result<Arc<Session>> {
        self.sidecar.connect_again()?;
        let session = self.session().await.map_err(|failure| failure.into_error("start"))?;
        self.routes.tell(None, None);
        Ok(Arc::new(session))
    }

    async fn lost(session: &Session) -> String {
        session.lost().await
    }
}
