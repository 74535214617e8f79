//! Looks now and then whether a registration still gets what it listens to, as a broker does not tell when rights are taken
//! away or somebody ends a subscription.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use purista_core::{
    Result,
    adapter::{ConsumerTask, StopSignal},
};
use rumqttc::PubAckReason;
use tokio::time::{sleep, timeout};

use crate::{
    codec::probe,
    connection::Connection,
    round_trips::RoundTrips,
    session::Session,
    standing::{Standing, Trouble},
};

/// How long a registration is not looked after.
const PERIOD: Duration = Duration::from_secs(3);

/// How long what was sent may take to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often in a row nothing comes back until that is told.
const MISSES: u32 = 2;

/// What a registration listens to.
pub(crate) trait Listening: Send + Sync + 'static {
    /// Returns the connection over which it gets messages; `None` at its end.
    fn session(&self) -> Option<Arc<Session>>;

    /// Returns what comes back over that connection.
    fn round_trips(&self) -> &RoundTrips;

    /// Subscribes again, which restores what somebody has ended and changes nothing otherwise.
    fn subscribe(&self, session: &Session) -> impl Future<Output = Result<()>> + Send;

    /// Listens to what is sent to find out what it may read. Returns whether that is allowed.
    fn listens_to_echoes(&self, session: &Session) -> impl Future<Output = bool> + Send;
}

/// Watches one registration.
pub(crate) struct Watch<L> {
    pub(crate) connection: Arc<Connection>,
    pub(crate) standing: Standing,
    pub(crate) listening: L,
    /// A topic that whoever may read what the registration listens to may read as well, and that nobody else listens to.
    pub(crate) topic: String,
    /// Where whoever may answer callers may write as well, for a command.
    pub(crate) answers: Option<String>,
}

impl<L: Listening> Watch<L> {
    /// Watches until this is dropped.
    pub(crate) fn spawn(self) -> ConsumerTask {
        let closing = self.connection.closing().clone();
        ConsumerTask::spawn(&closing, |stop| self.run(stop))
    }

    async fn run(self, mut stop: StopSignal) {
        tokio::select! {
            _why = stop.told() => {}
            () = self.look_after() => {}
        }
    }

    async fn look_after(&self) {
        let (mut misses, mut came_back) = (0, false);
        loop {
            // Sooner, if something seems to be wrong.
            sleep(if misses == 0 { PERIOD } else { PATIENCE / 2 }).await;
            if self.connection.ready().await.is_err() {
                return;
            }
            self.connection.check_turn().await;
            let Some(session) = self.listening.session() else { return };
            let subscribed = self.listening.subscribe(&session).await;
            if session.is_lost() {
                // Who restores it finds out.
                continue;
            }
            if let Err(error) = &subscribed {
                tracing::debug!(%error, topic = self.topic, "not subscribed again");
            }
            self.standing.note(Trouble::Refused, subscribed.is_err());
            if let Some(answers) = &self.answers {
                let asked = self.send(answers, Bytes::new()).await;
                if let Some(reason) = asked {
                    self.standing.note(Trouble::Mute, reason == PubAckReason::NotAuthorized);
                }
            }
            let echo = match self.comes_back(&session).await {
                Echo::Came => Some(true),
                Echo::Missing => Some(false),
                // Rights were withdrawn, maybe that to read as well.
                Echo::Refused if came_back => Some(false),
                Echo::Refused | Echo::Unknown => None,
            };
            match echo {
                Some(true) => {
                    (misses, came_back) = (0, true);
                    self.standing.note(Trouble::Deaf, false);
                }
                Some(false) if !session.is_lost() && self.connection.is_up() => {
                    misses += 1;
                    if misses == MISSES {
                        tracing::warn!(
                            topic = self.topic,
                            "what is published there does not come: is it allowed to read it?"
                        );
                    }
                    self.standing.note(Trouble::Deaf, misses >= MISSES);
                }
                _ => {}
            }
        }
    }

    /// Sends something, and returns what the broker says of it; `None` if it says nothing.
    async fn send(&self, topic: &str, payload: Bytes) -> Option<PubAckReason> {
        let session = self.connection.session();
        let sent = session.publish(topic.to_owned(), payload, probe());
        timeout(PATIENCE, sent).await.ok()?.ok()
    }

    /// Finds out whether something comes that is sent.
    async fn comes_back(&self, session: &Session) -> Echo {
        if !self.listening.listens_to_echoes(session).await {
            return Echo::Unknown;
        }
        let (number, back) = self.listening.round_trips().begin();
        match self.send(&self.topic, Bytes::copy_from_slice(&number.to_be_bytes())).await {
            Some(PubAckReason::Success | PubAckReason::NoMatchingSubscribers) => {
                match timeout(PATIENCE, back).await {
                    Ok(Ok(_)) => Echo::Came,
                    _ => Echo::Missing,
                }
            }
            Some(PubAckReason::NotAuthorized) => Echo::Refused,
            _ => Echo::Unknown,
        }
    }
}

/// What became of something that was sent to come back.
enum Echo {
    Came,
    Missing,
    /// It may not be written, which says nothing about reading.
    Refused,
    Unknown,
}
