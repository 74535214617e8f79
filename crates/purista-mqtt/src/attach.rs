use std::{sync::Arc, time::Duration};

use purista_core::{Error, ErrorKind, Granted, Result, ServiceAddress, Sharing, Subscription};
use rumqttc::{AckMode, Publish, QoS};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    address::Names,
    connection::Connection,
    error::error,
    hand_over::HandOver,
    options::SessionSpec,
    round_trips::RoundTrips,
    session::{Arrival, Inbox, Session},
    session_record::{SessionRecord, SessionState},
    window::Window,
};

/// How many messages a subscription may have under way over its own connection, which publishes its record alone.
const MAX_INFLIGHT: u16 = 1;

/// Room for all that can come before an acknowledgement, which is one message for each packet identifier: the connection
/// never waits for who takes them. The receive maximum is less, but who counts on it never hears that it is subscribed if a
/// broker sends more when it resumes a session.
pub(crate) const ARRIVALS: usize = 65_535 + 1;

/// How long it takes until a connection throws out another one with its client id, from when it is made again.
const THROWN_OUT_WITHIN: Duration = Duration::from_millis(500);

/// How a subscription is attached to the broker.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) connection: Arc<Connection>,
    pub(crate) subscriber: ServiceAddress,
    pub(crate) spec: SessionSpec,
    /// The topics of what it wants.
    pub(crate) pattern: String,
    /// The same, shared if it is.
    pub(crate) filter: String,
    /// Where its record is kept.
    pub(crate) record: String,
    /// Where the session's end marker comes.
    pub(crate) end: String,
    /// What the session listens to, and one topic of it, for finding out what it may read.
    pub(crate) echoes: String,
    pub(crate) echo: Arc<str>,
    pub(crate) round_trips: Arc<RoundTrips>,
    /// Where copies of messages are kept that wait for their next attempt, if they must not be lost.
    pub(crate) copies: Option<String>,
    pub(crate) hand_over: Option<Arc<HandOver>>,
    pub(crate) is_durable: bool,
    /// What its instances must have in common, as each message goes to one of them.
    pub(crate) listens_to: String,
}

/// A session with what comes over it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Arc<Session>,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) window: Window,
    /// What an earlier process under this id had in hand.
    pub(crate) left: Vec<Arrival>,
}

impl Attached {
    fn new(session: Session, arrivals: mpsc::Receiver<Arrival>, left: Vec<Arrival>) -> Self {
        let window = Window::new(session.limits.window);
        Self { session: Arc::new(session), arrivals, window, left }
    }

    /// Returns what is needed to end it.
    pub(crate) fn end(&self) -> (Arc<Session>, Window) {
        (Arc::clone(&self.session), self.window.clone())
    }
}

/// Takes what comes over the session of a subscription.
#[derive(Clone, Debug)]
struct SubscriptionInbox {
    to: mpsc::Sender<Arrival>,
    echo: Arc<str>,
    round_trips: Arc<RoundTrips>,
    connection: Arc<Connection>,
}

impl Inbox for SubscriptionInbox {
    async fn take(&self, arrival: Arrival) {
        let Arrival { publish, .. } = &arrival;
        if publish.qos == QoS::AtMostOnce {
            if publish.topic == self.echo.as_bytes() {
                self.round_trips.end(&publish.payload);
            } else if self.to.try_send(arrival).is_err() {
                // Nothing bounds how many of these come.
                self.connection.link().overflowed();
            }
        } else {
            self.to.take(arrival).await;
        }
    }
}

impl Attachment {
    pub(crate) fn new(connection: Arc<Connection>, subscription: &Subscription, granted: &Granted) -> Self {
        let (names, config) = (&connection.names, &connection.config);
        let subscriber = &subscription.subscriber;
        let pattern = names.pattern(&subscription.filter);
        let (filter, hand_over) = match granted.sharing {
            Sharing::Broadcast => (pattern.clone(), None),
            _ => {
                let hand_over = Arc::new(HandOver::new(Arc::clone(&connection), subscriber));
                (names.shared_by(subscriber, &pattern), Some(hand_over))
            }
        };
        let spec = SessionSpec {
            client_id: names.subscriber_client(subscriber, connection.link().instance_id()),
            expiry: config.session_expiry.filter(|_| granted.durable),
            receive_maximum: config.receive_maximum,
            max_inflight: MAX_INFLIGHT,
            ack_mode: AckMode::Manual,
            refused: Arc::default(),
        };
        let kind = if granted.durable { "durable" } else { "transient" };
        Self {
            listens_to: format!("{kind} {pattern}"),
            subscriber: subscriber.clone(),
            record: names.session(subscriber, &spec.client_id),
            end: names.round_trip(&spec.client_id),
            echoes: names.echoes(&spec.client_id),
            echo: Names::echo(&pattern, &spec.client_id).into(),
            round_trips: Arc::default(),
            copies: granted.durable.then(|| names.parked(subscriber, &spec.client_id)),
            spec,
            pattern,
            filter,
            hand_over,
            is_durable: granted.durable,
            connection,
        }
    }

    /// Attaches for the first time, whatever the session listens to from a time before.
    pub(crate) async fn attach(&self) -> Result<Attached> {
        let main = self.connection.session();
        let (session, arrivals) = self.open().await?;
        let attached = async {
            let before = match session.is_resumed {
                true => self.connection.kept(&self.record).await?.pop(),
                false => None,
            };
            // First what is new, so that nothing is missed.
            self.subscribe(&session).await?;
            if self.is_durable {
                self.note(&session, SessionState::Attached).await?;
            } else if self.connection.config.session_expiry.is_some() && session.limits.retains {
                // It may have been durable before.
                SessionRecord::forget(&session, &self.record).await?;
            }
            if session.is_resumed {
                let before = before.and_then(|before| SessionRecord::read(&before.payload));
                let former = self.former_filters(before.map(|before| before.filter));
                for former in former.iter().filter(|former| **former != self.filter) {
                    session.unsubscribe(former).await?;
                }
            }
            let left = match &self.copies {
                Some(copies) => copies_in(&self.connection, copies).await?,
                None => Vec::new(),
            };
            // Whoever is thrown out hears that before it is answered.
            match self.connection.round_trip().await {
                Err(_) if main.is_taken_over() || (main.is_lost() && self.is_thrown_out(&session).await) => {
                    Err(taken_over())
                }
                _ => Ok(left),
            }
        };
        match attached.await {
            Ok(left) => {
                let left = left.into_iter().map(|copy| session.arrival_of_copy(copy)).collect();
                Ok(Attached::new(session, arrivals, left))
            }
            Err(error) => {
                session.disconnect(!session.is_resumed).await;
                // What was asked over that connection was lost with it.
                Err(if main.is_taken_over() { taken_over() } else { error })
            }
        }
    }

    /// Makes sure that no other instance listens to something else: each would get its share of the messages, and what only
    /// one of them wants would come to it now and then.
    pub(crate) async fn agree(&self) -> Result<()> {
        let Some(hand_over) = &self.hand_over else { return Ok(()) };
        match self.connection.ask(hand_over.presence.clone(), Some(&self.listens_to)).await? {
            Some(false) => Err(error(ErrorKind::TopologyMismatch, "register").with_context(format!(
                "another instance of {} has another filter or is not as durable; this one: {}",
                self.subscriber, self.listens_to
            ))),
            Some(true) | None => Ok(()),
        }
    }

    /// Returns whether a session that is up is lost once the connection of its instance is back.
    async fn is_thrown_out(&self, session: &Session) -> bool {
        self.subscribe(session).await.is_ok()
            && self.connection.ready().await.is_ok()
            && timeout(THROWN_OUT_WITHIN, session.lost()).await.is_ok()
    }

    /// Returns what the session may listen to: what is kept of it, what it wants now in the other ways to share it, and what
    /// others need who emptied it.
    fn former_filters(&self, before: Option<String>) -> Vec<String> {
        let hand_over = HandOver::new(Arc::clone(&self.connection), &self.subscriber);
        let shared = self.connection.names.shared_by(&self.subscriber, &self.pattern);
        let mut former = vec![self.end.clone(), self.pattern.clone(), shared];
        former.extend(before);
        former.extend(self.hand_over.is_none().then_some(hand_over.filter));
        former
    }

    /// Attaches again, after the connection was lost. Notes whether the broker had forgotten the session: also if this fails,
    /// as the next attempt finds the new one.
    pub(crate) async fn attach_again(&self, was_forgotten: &mut bool) -> Result<Attached> {
        let (session, arrivals) = self.open().await?;
        *was_forgotten |= self.is_durable && !session.is_resumed;
        self.subscribe(&session).await?;
        if *was_forgotten {
            self.note(&session, SessionState::Attached).await?;
        }
        Ok(Attached::new(session, arrivals, Vec::new()))
    }

    /// Leaves the session for messages that come while this instance is away. Mosquitto forgets when it restarts what is
    /// shared, until its instances are back, so this is not.
    pub(crate) async fn leave_waiting(&self, session: &Session) -> Result<()> {
        if self.hand_over.is_some() {
            session.subscribe(std::slice::from_ref(&self.pattern), None).await?;
            self.note(session, SessionState::Waiting).await?;
            session.unsubscribe(&self.filter).await?;
            if self.another_waits().await? {
                session.unsubscribe(&self.pattern).await?;
            }
        }
        Ok(())
    }

    /// Notes what becomes of the session. Only one that is attached stays noted until something else is.
    pub(crate) async fn note(&self, session: &Session, state: SessionState) -> Result<()> {
        let (filter, expiry) = match state {
            SessionState::Attached => (&self.filter, None),
            SessionState::Waiting => (&self.pattern, self.spec.expiry),
            SessionState::Leaving => (&self.filter, self.spec.expiry),
        };
        SessionRecord::new(state, filter).keep(session, &self.record, expiry).await
    }

    /// Returns whether the session of another instance waits, of several that shut down at the same time the one with the
    /// least client id.
    async fn another_waits(&self) -> Result<bool> {
        let sessions = self.connection.names.sessions(Some(&self.subscriber));
        let records = self.connection.kept(&sessions).await?;
        let waits = |payload: &[u8]| {
            SessionRecord::read(payload).is_some_and(|record| record.state == SessionState::Waiting)
        };
        Ok(records.iter().any(|record| record.topic < self.record && waits(&record.payload)))
    }

    async fn open(&self) -> Result<(Session, mpsc::Receiver<Arrival>)> {
        let (to, arrivals) = mpsc::channel(ARRIVALS);
        let inbox = SubscriptionInbox {
            to,
            echo: Arc::clone(&self.echo),
            round_trips: Arc::clone(&self.round_trips),
            connection: Arc::clone(&self.connection),
        };
        Ok((Session::open(&self.connection.config, &self.spec, inbox).await?, arrivals))
    }

    pub(crate) async fn subscribe(&self, session: &Session) -> Result<()> {
        let mut filters = vec![self.filter.clone()];
        filters.extend(self.hand_over.as_ref().map(|hand_over| hand_over.filter.clone()));
        session.subscribe(&filters, None).await
    }

    /// Listens to what is sent to find out what the session may read. Returns whether that is allowed.
    pub(crate) async fn listens_to_echoes(&self, session: &Session) -> bool {
        session.subscribe_to_echoes(self.echoes.clone(), None).await.is_ok()
    }

    /// Listens to that no more: what comes to a session that is left waits in it.
    pub(crate) async fn ends_echoes(&self, session: &Session) -> Result<()> {
        session.unsubscribe(&self.echoes).await
    }
}

fn taken_over() -> Error {
    error(ErrorKind::TopologyMismatch, "register").with_context(
        "another connection has the same client id: the broker gives one to all connections of a user \
         (use_username_as_clientid), or another bridge has the same instance id",
    )
}

/// Returns the copies of messages that somebody had in hand.
pub(crate) async fn copies_in(connection: &Connection, topic: &str) -> Result<Vec<Publish>> {
    let mut copies = connection.kept(&format!("{topic}/+")).await?;
    copies.retain(|copy| !copy.payload.is_empty());
    Ok(copies)
}
