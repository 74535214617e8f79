use std::sync::Arc;

use purista_core::{Granted, Result, ServiceAddress, Sharing, Subscription};
use rumqttc::AckMode;
use tokio::sync::mpsc;

use crate::{
    acknowledgement::Unsettled,
    address::shared_by,
    connection::Connection,
    hand_over::HandOver,
    options::SessionSpec,
    session::{Arrival, Session},
    session_record::{SessionRecord, SessionState},
};

/// How many messages a subscription may have under way over its own connection, which publishes its record alone.
const MAX_INFLIGHT: u16 = 1;

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
    pub(crate) hand_over: Option<Arc<HandOver>>,
    pub(crate) is_durable: bool,
}

/// A session with what comes over it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Arc<Session>,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) unsettled: Unsettled,
}

impl Attached {
    fn new(session: Session, arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self { session: Arc::new(session), arrivals, unsettled: Unsettled::default() }
    }

    /// Returns what is needed to end it.
    pub(crate) fn end(&self) -> (Arc<Session>, Unsettled) {
        (Arc::clone(&self.session), self.unsettled.clone())
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
                (shared_by(subscriber, &pattern), Some(hand_over))
            }
        };
        let spec = SessionSpec {
            client_id: names.subscriber_client(subscriber, connection.link().instance_id()),
            expiry: config.session_expiry.filter(|_| granted.durable),
            receive_maximum: config.receive_maximum,
            max_inflight: MAX_INFLIGHT,
            ack_mode: AckMode::Manual,
        };
        Self {
            subscriber: subscriber.clone(),
            record: names.session(subscriber, &spec.client_id),
            end: names.round_trip(&spec.client_id),
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
            } else if self.connection.config.session_expiry.is_some() {
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
            Ok(())
        };
        match attached.await {
            Ok(()) => Ok(Attached::new(session, arrivals)),
            Err(error) => {
                session.disconnect(!session.is_resumed).await;
                Err(error)
            }
        }
    }

    /// Returns what the session may listen to: what is kept of it, what it wants now in the other ways to share it, and what
    /// others need who emptied it.
    fn former_filters(&self, before: Option<String>) -> Vec<String> {
        let hand_over = HandOver::new(Arc::clone(&self.connection), &self.subscriber);
        let mut former =
            vec![self.end.clone(), self.pattern.clone(), shared_by(&self.subscriber, &self.pattern)];
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
        Ok(Attached::new(session, arrivals))
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
        // Room for all that can come before an acknowledgement, so that the connection never waits here.
        let (inbox, arrivals) = mpsc::channel(usize::from(self.spec.receive_maximum) + 1);
        Ok((Session::open(&self.connection.config, &self.spec, inbox).await?, arrivals))
    }

    async fn subscribe(&self, session: &Session) -> Result<()> {
        let mut filters = vec![self.filter.clone()];
        filters.extend(self.hand_over.as_ref().map(|hand_over| hand_over.filter.clone()));
        session.subscribe(&filters, None).await
    }
}
