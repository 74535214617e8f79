use std::sync::Arc;

use bytes::Bytes;
use purista_core::{Granted, Result, ServiceAddress, Sharing, Subscription};
use rumqttc::AckMode;
use tokio::sync::mpsc;

use crate::{
    acknowledgement::Unsettled,
    address::{name, shared},
    codec::kept,
    connection::Connection,
    error::lost,
    hand_over::HandOver,
    options::SessionSpec,
    session::{Arrival, Session},
};

/// How many messages a subscription publishes over its own connection: none.
const MAX_INFLIGHT: u16 = 1;

/// How a subscription is attached to the broker.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) connection: Arc<Connection>,
    pub(crate) subscriber: ServiceAddress,
    pub(crate) spec: SessionSpec,
    pub(crate) filter: String,
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
            Sharing::Broadcast => (pattern, None),
            _ => {
                let hand_over = Arc::new(HandOver::new(Arc::clone(&connection), subscriber));
                (shared(&name(subscriber, None), &pattern), Some(hand_over))
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
            spec,
            filter,
            hand_over,
            is_durable: granted.durable,
            connection,
        }
    }

    pub(crate) async fn attach(&self) -> Result<Attached> {
        // Room for all that can come before an acknowledgement, so that the connection never waits here.
        let (inbox, arrivals) = mpsc::channel(usize::from(self.spec.receive_maximum) + 1);
        let session = Session::open(&self.connection.config, &self.spec, inbox).await?;
        if let Err(error) = self.subscribe(&session).await {
            session.disconnect(!session.is_resumed).await;
            return Err(error);
        }
        Ok(Attached { session: Arc::new(session), arrivals, unsettled: Unsettled::default() })
    }

    async fn subscribe(&self, session: &Session) -> Result<()> {
        if self.is_durable {
            self.replace_other_filter(session).await?;
        }
        if session.is_resumed && self.hand_over.is_none() {
            // It may have been shared before.
            let shared = HandOver::new(Arc::clone(&self.connection), &self.subscriber);
            session.unsubscribe(&shared.filter).await.map_err(|_| lost("register"))?;
        }
        let mut filters = vec![self.filter.clone()];
        filters.extend(self.hand_over.as_ref().map(|hand_over| hand_over.filter.clone()));
        session.subscribe(&filters, None).await
    }

    /// Ends what a session listens to that was registered with another filter before. The broker does not tell what that
    /// is, so it is kept under a topic.
    async fn replace_other_filter(&self, session: &Session) -> Result<()> {
        let record = self.connection.names.session(&self.spec.client_id);
        if session.is_resumed
            && let Some(before) = self.connection.kept(&record).await?
        {
            if before == self.filter {
                return Ok(());
            }
            let before = String::from_utf8_lossy(&before);
            session.unsubscribe(&before).await.map_err(|_| lost("register"))?;
        }
        let filter = Bytes::from(self.filter.clone());
        self.connection.publish_once(record, filter, kept(), "register").await.map(drop)
    }

    pub(crate) async fn forget_record(&self) -> Result<()> {
        if !self.is_durable {
            return Ok(());
        }
        let record = self.connection.names.session(&self.spec.client_id);
        self.connection.publish_once(record, Bytes::new(), kept(), "unregister").await.map(drop)
    }
}
