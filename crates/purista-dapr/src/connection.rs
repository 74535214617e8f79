use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{Backoff, Connectivity, Link, Reconnect, keep_connected},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app_channel::{App, AppChannel},
    cloud_event::{self, Destination},
    config::Config,
    error::error,
    routes::Routes,
    sidecar::{Failure, Metadata, Sidecar},
    transport::NAME,
};

/// The sidecar beside this process, as long as the bridge runs.
#[derive(Debug)]
pub(crate) struct Connection {
    connectivity: Connectivity,
    pub(crate) config: Config,
    pub(crate) sidecar: Sidecar,
    pub(crate) app_id: String,
    pub(crate) component_type: Option<String>,
    app_port: Option<u16>,
    pub(crate) routes: Arc<Routes>,
    channel: Mutex<Option<AppChannel>>,
    /// Asks for a look at the sidecar, as a request got no answer.
    suspicion: Arc<Notify>,
    /// Copies for the topic of all messages that nobody waits for.
    copies: TaskTracker,
}

/// A sidecar that knows what is registered, and is watched.
#[derive(Debug)]
pub(crate) struct Session {
    sidecar: Sidecar,
    pubsub_name: String,
    has_component: bool,
    topics: Vec<String>,
    pause: Duration,
    suspicion: Arc<Notify>,
}

impl Session {
    /// Says what the sidecar lacks of what it had, or should have by now.
    fn missing(&self, metadata: &Metadata) -> Option<String> {
        if self.has_component && metadata.component_type(&self.pubsub_name).is_none() {
            return Some(format!("the sidecar has no component {} any more", self.pubsub_name));
        }
        let is_missing = |topic: &&String| !metadata.is_subscribed(&self.pubsub_name, topic);
        let topic = self.topics.iter().find(is_missing)?;
        // It may have asked an app that ran here before; or it is told to ask as soon as we are well.
        Some(format!("the sidecar has not subscribed to {topic}: does it need a restart?"))
    }
}

impl Connection {
    /// Finds the sidecar.
    pub(crate) async fn open(config: &Config, sidecar: &Sidecar, link: Link) -> Result<Arc<Self>> {
        let metadata = found(config, sidecar).await?;
        let wrong = |context: String| Err(error(ErrorKind::InvalidConfig, "start").context(context));
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
            return Err(error(ErrorKind::InvalidConfig, "start").context(context));
        };
        let address = self.config.app_address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into());
        let (routes, link) = (Arc::clone(&self.routes), self.link().clone());
        let app = App { routes, link, config: self.config.clone() };
        *self.channel.lock() = Some(AppChannel::open(address, app).await?);
        let end = Instant::now() + self.config.connect_timeout;
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
        tokio::spawn(keep_connected(Arc::downgrade(self), Arc::new(self.watched())));
    }

    fn watched(&self) -> Session {
        Session {
            sidecar: self.sidecar.clone(),
            pubsub_name: self.config.pubsub_name.clone(),
            has_component: self.component_type.is_some(),
            topics: self.routes.topics(),
            pause: self.config.keep_alive / 2,
            suspicion: Arc::clone(&self.suspicion),
        }
    }

    /// Returns a session if the sidecar has subscribed to all, and reaches us.
    async fn session(&self) -> Result<Session, Failure> {
        let fails = |kind, context: String| Err(Failure::Refused(error(kind, "start").context(context)));
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
        if let Some(missing) = session.missing(&metadata) {
            return fails(ErrorKind::Unavailable, missing);
        }
        if !is_ready {
            return fails(ErrorKind::Unavailable, "the sidecar is not ready".to_owned());
        }
        if self.app_port.is_some()
            && let Some(cause) = self.sidecar.unreached_app(&self.app_id).await?
        {
            let unreached = error(ErrorKind::Unavailable, "start").context("the sidecar does not reach us");
            return Err(Failure::Refused(unreached.source(cause)));
        }
        Ok(session)
    }

    /// Returns the link to the engine.
    pub(crate) const fn link(&self) -> &Link {
        self.connectivity.link()
    }

    /// Returns whether the sidecar is there.
    pub(crate) fn is_up(&self) -> bool {
        self.connectivity.is_up()
    }

    /// Waits until the sidecar is there.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.connectivity.ready().await
    }

    /// Has a look at the sidecar, as a request got no answer.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Publishes a message to each of its topics; again if a connection is lost.
    pub(crate) async fn publish(&self, message: &Message, operation: &'static str) -> Result<()> {
        if message.event_name.is_none() && self.config.all_messages_topic.is_none() {
            return Ok(());
        }
        let envelope = message.encode();
        let event = message.event_name.as_ref().map(|name| self.config.topic(name));
        let for_one = async {
            match &event {
                Some(topic) => self.publish_until_taken(message, &envelope, topic, false, operation).await,
                None => Ok(()),
            }
        };
        let for_all = async {
            match &self.config.all_messages_topic {
                Some(topic) => self.publish_until_taken(message, &envelope, topic, true, operation).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(for_one, for_all).map(drop)
    }

    async fn publish_until_taken(
        &self,
        message: &Message,
        envelope: &[u8],
        topic: &str,
        is_for_all: bool,
        operation: &'static str,
    ) -> Result<()> {
        let event = cloud_event::cloud_event(message, envelope, self.destination(topic, is_for_all));
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            self.ready().await?;
            let reason = match self.sidecar.publish(topic, event.clone(), operation).await {
                Ok(()) => return Ok(()),
                Err(Failure::Lost(reason)) => reason,
                // A sidecar that ends closes its components before it stops to answer.
                Err(Failure::Refused(error))
                    if error.kind() == ErrorKind::InvalidConfig && self.component_type.is_some() =>
                {
                    error.to_string()
                }
                Err(Failure::Refused(error)) => return Err(error),
            };
            tracing::debug!(reason, "an event is published again");
            self.suspect();
            sleep(backoff.next_delay()).await;
        }
    }

    /// Returns what a CloudEvent says of where it comes from and goes to.
    pub(crate) fn destination<'a>(&'a self, topic: &'a str, is_for_all: bool) -> Destination<'a> {
        Destination { source: &self.app_id, pubsub_name: &self.config.pubsub_name, topic, is_for_all }
    }

    /// Lets subscriptions to everything see a message that does not travel by a topic itself.
    pub(crate) fn copy_for_all(self: &Arc<Self>, message: &Arc<Message>) {
        if self.config.all_messages_topic.is_none() {
            return;
        }
        let (connection, message) = (Arc::clone(self), Arc::clone(message));
        self.copies.spawn(async move {
            let closing = connection.connectivity.closing();
            tokio::select! {
                () = closing.cancelled() => {}
                published = connection.publish(&message, "invoke") => {
                    if let Err(error) = published {
                        tracing::warn!(%error, "no subscription sees a command");
                    }
                }
            }
        });
    }

    /// Ends it, after what is under way.
    pub(crate) async fn close(&self) {
        self.copies.close();
        if self.is_up() {
            self.copies.wait().await;
        }
        self.cancel();
        let channel = self.channel.lock().take();
        if let Some(channel) = channel {
            channel.close().await;
        }
    }

    /// Ends it at once.
    pub(crate) fn cancel(&self) {
        self.connectivity.closing().cancel();
    }
}

/// Asks the sidecar who it is; while it is not there yet, again until the time is over.
async fn found(config: &Config, sidecar: &Sidecar) -> Result<Metadata> {
    let end = Instant::now() + config.connect_timeout;
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

    fn connectivity(&self) -> &Connectivity {
        &self.connectivity
    }

    fn max_reconnect_delay(&self) -> Duration {
        self.config.max_reconnect_delay
    }

    async fn restore(&self) -> Result<Arc<Session>> {
        self.sidecar.connect_again()?;
        self.session().await.map(Arc::new).map_err(|failure| failure.into_error("start"))
    }

    async fn lost(session: &Session) -> String {
        loop {
            tokio::select! {
                () = sleep(session.pause) => {}
                () = session.suspicion.notified() => {}
            }
            match session.sidecar.metadata().await {
                Ok(metadata) => match session.missing(&metadata) {
                    None => {}
                    Some(missing) => return missing,
                },
                Err(Failure::Lost(reason)) => return reason,
                Err(Failure::Refused(error)) => return error.to_string(),
            }
        }
    }

    fn is_lost(_session: &Session) -> bool {
        false
    }
}
