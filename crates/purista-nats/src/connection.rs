use std::{
    collections::HashSet,
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, HeaderMap, StatusCode, Subject, Subscriber, connection::State};
use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    Error, ErrorKind, Id, Result,
    adapter::{Connectivity, Link},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    address::{Names, command_suffix},
    config::{Config, JetStreamConfig},
    connect::connect,
    error::{Violation, error, from_publish, violation},
    reader::Reader,
    replies::{Outcome, Replies, Reply},
    room::Room,
    supervisor::supervise,
    transport::NAME,
};

/// How long a way to the server and back may take.
const ROUND_TRIP: Duration = Duration::from_secs(10);

/// One connection to the server, which the client restores when it is lost.
pub(crate) struct Connection {
    client: Client,
    jetstream: OnceLock<JetStreamConfig>,
    pub(crate) names: Names,
    /// What the subjects of all replies to this connection begin with, with a dot at the end.
    inbox: String,
    replies: Arc<Replies>,
    connectivity: Connectivity,
    forbidden_subscriptions: Mutex<HashSet<String>>,
    pub(crate) room: Room,
    /// Whether a stream keeps commands. The server cannot tell then that nobody serves one.
    pub(crate) keeps_commands: AtomicBool,
    next_inbox: AtomicU64,
}

/// Tells one connection of the client from the next.
pub(crate) type ConnectionId = (String, u64);

impl Deref for Connection {
    type Target = Connectivity;

    fn deref(&self) -> &Connectivity {
        &self.connectivity
    }
}

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link) -> Result<Arc<Self>> {
        let closing = CancellationToken::new();
        let (events, told) = mpsc::channel(128);
        let was_connected = Arc::new(AtomicBool::new(false));
        let client = connect(config, &link, &events, &was_connected, &closing).await?;
        drop(events);
        was_connected.store(true, Ordering::Release);

        let inbox = format!("{}.{}.", config.inbox_prefix, Id::random());
        let subscriber = client.subscribe(format!("{inbox}*")).await.map_err(from_subscribe)?;
        let replies = Arc::new(Replies::default());
        let connection = Arc::new(Self {
            client,
            jetstream: OnceLock::new(),
            names: Names::new(&config.prefix),
            inbox,
            replies: Arc::clone(&replies),
            connectivity: Connectivity::new(NAME, link.clone(), closing.clone()),
            forbidden_subscriptions: Mutex::default(),
            room: Room::default(),
            keeps_commands: AtomicBool::new(false),
            next_inbox: AtomicU64::new(0),
        });
        let reader = Reader { prefix: connection.inbox.len(), replies, link };
        tokio::spawn(reader.read(subscriber, closing.clone()));
        let id = connection.id();
        tokio::spawn(supervise(Arc::downgrade(&connection), told, closing, id));
        connection.round_trip().await?;
        if let Some(jetstream) = &config.jetstream
            && connection.has_jetstream().await?
        {
            let _only_here = connection.jetstream.set(jetstream.clone());
        }
        Ok(connection)
    }

    /// Returns how JetStream is used, if the server has it and it is wanted.
    pub(crate) fn jetstream(&self) -> Option<&JetStreamConfig> {
        self.jetstream.get()
    }

    /// Returns the largest message that the server takes, headers included.
    pub(crate) fn max_message(&self) -> usize {
        self.client.max_payload()
    }

    /// Publishes a message. Returns when it is on its way to the server.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        reply_to: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<()> {
        let client = &self.client;
        let size = payload.len();
        let sent = match (reply_to, headers) {
            (None, None) => client.publish(subject, payload).await,
            (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
            (Some(reply_to), None) => client.publish_with_reply(subject, reply_to, payload).await,
            (Some(reply_to), Some(headers)) => {
                client.publish_with_reply_and_headers(subject, reply_to, headers, payload).await
            }
        };
        sent.map_err(|cause| {
            if cause.kind() == async_nats::PublishErrorKind::MaxPayloadExceeded {
                let kind = ErrorKind::payload_too_large(size, self.max_message());
                return error(kind, "send").source(cause);
            }
            from_publish(cause, "send")
        })
    }

    /// Publishes a message with an inbox for its reply.
    pub(crate) async fn publish_for_reply(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Reply> {
        let reply = self.replies.expect(subject.clone(), patience);
        let reply_to = self.inbox_of(reply.token());
        self.publish(subject, Some(reply_to.into()), headers, payload).await?;
        Ok(reply)
    }

    /// Returns the inbox for one reply: to something that was published, or, by its correlation id, to a command.
    pub(crate) fn inbox_of(&self, token: impl fmt::Display) -> String {
        format!("{}{token}", self.inbox)
    }

    /// Returns an inbox that is not read by the connection itself.
    pub(crate) fn new_inbox(&self) -> String {
        format!("{}pull.{}", self.inbox, self.next_inbox.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until the server has done all that was sent before, and all that it has sent before has arrived.
    pub(crate) async fn round_trip(&self) -> Result<()> {
        let mut reply = self.replies.expect(Subject::from_static(""), ROUND_TRIP);
        self.publish(self.inbox_of(reply.token()).into(), None, None, Bytes::new()).await?;
        match reply.outcome().await {
            Outcome::Reply(_) => Ok(()),
            Outcome::Lost | Outcome::Forbidden => Err(error(ErrorKind::Unavailable, "send")),
        }
    }

    /// Publishes a message, and returns whether the server had somebody to give it to.
    pub(crate) async fn publish_to_somebody(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<bool> {
        let mut reply = self.publish_for_reply(subject, headers, payload, ROUND_TRIP).await?;
        self.round_trip().await?;
        // The server says that nobody is there before it does anything else.
        match reply.try_outcome() {
            Some(Outcome::Reply(message)) => Ok(message.status != Some(StatusCode::NO_RESPONDERS)),
            Some(Outcome::Forbidden) => Err(error(ErrorKind::Forbidden, "send")),
            Some(Outcome::Lost) => Err(error(ErrorKind::Unavailable, "send")),
            None => Ok(true),
        }
    }

    /// Publishes without JetStream; returns when the server has passed the message on.
    pub(crate) async fn publish_at_most_once(
        &self,
        subject: Subject,
        payload: Bytes,
        must_route: bool,
    ) -> Result<()> {
        self.ready().await?;
        let mut reply = self.replies.expect(subject.clone(), ROUND_TRIP);
        let reply_to = must_route.then(|| Subject::from(self.inbox_of(reply.token())));
        self.publish(subject, reply_to, None, payload).await?;
        self.round_trip_after_refusal().await?;
        match reply.try_outcome() {
            Some(Outcome::Reply(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(error(ErrorKind::Unroutable, "emit"))
            }
            Some(Outcome::Forbidden) => Err(error(ErrorKind::Forbidden, "emit")),
            Some(Outcome::Lost) => Err(error(ErrorKind::Unavailable, "emit")),
            Some(Outcome::Reply(_)) | None => Ok(()),
        }
    }

    /// Waits until the server has done what was sent before, and its refusal has been heard.
    async fn round_trip_after_refusal(&self) -> Result<()> {
        // A refusal comes before the first round trip is over, but on another way: the second one gives it time.
        self.round_trip().await?;
        self.round_trip().await
    }

    /// Subscribes; returns when the server routes to us.
    pub(crate) async fn subscribe(&self, subject: String, queue_group: Option<String>) -> Result<Subscriber> {
        self.forbidden_subscriptions.lock().remove(&subject);
        let subscriber = match queue_group {
            Some(group) => self.client.queue_subscribe(subject.clone(), group).await,
            None => self.client.subscribe(subject.clone()).await,
        };
        let subscriber = subscriber.map_err(from_subscribe)?;
        self.round_trip_after_refusal().await?;
        if self.forbidden_subscriptions.lock().remove(&subject) {
            return Err(error(ErrorKind::Forbidden, "register"));
        }
        Ok(subscriber)
    }

    /// Sends what is under way and disconnects.
    pub(crate) async fn close(&self) -> Result<()> {
        // Also when this is dropped half-way.
        let _closing = self.closing().clone().drop_guard();
        if !self.is_up() {
            return Ok(());
        }
        let sent = self.round_trip().await;
        // Anything that still holds a client would keep the connection open otherwise.
        let _closed_already = self.client.drain().await;
        sent
    }

    pub(crate) fn expire_replies(&self) {
        self.replies.expire();
    }

    pub(crate) fn lost(&self) {
        self.replies.lose_all();
        self.went_down("the connection to the server was lost");
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(crate) fn id(&self) -> ConnectionId {
        let info = self.client.server_info();
        (info.server_id, info.client_id)
    }

    pub(crate) async fn restore(&self) -> Result<()> {
        self.round_trip().await?;
        let mut was_forgotten = false;
        for what in self.restored() {
            was_forgotten |= what.restore().await?;
        }
        if was_forgotten {
            self.link().session_lost();
        }
        Ok(())
    }

    pub(crate) fn refused_by_server(&self, text: &str) {
        match violation(text) {
            Some(Violation::Publish(subject)) => {
                self.replies.forbid(subject);
                self.link().fail_calls_to(
                    |receiver| {
                        subject.ends_with(&format!(".{}", command_suffix(&self.names, &receiver.address)))
                    },
                    &error(ErrorKind::Forbidden, "invoke"),
                );
            }
            Some(Violation::Subscription(subject)) => {
                self.forbidden_subscriptions.lock().insert(subject.to_owned());
            }
            None => {}
        }
        tracing::warn!(error = text, "the server refused something");
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

fn from_subscribe(cause: async_nats::SubscribeError) -> Error {
    error(ErrorKind::Unavailable, "register").source(cause)
}
