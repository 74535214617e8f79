use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ClientError, HeaderMap, StatusCode, Subject, connection::State};
use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Id, Result,
    adapter::{Connectivity, Link},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Names,
    config::{Config, JetStreamConfig},
    connect::connect,
    error::{error, from_publish},
    healing::heal,
    provided::Provided,
    reader::Reader,
    refusals::Refusals,
    replies::{NoReply, Replies, Reply},
    restoring::from_subscribe,
    room::Room,
    routes::{Route, Routes},
    streams::StreamKind,
    subscription::Subscription,
    supervisor::supervise,
    transport::NAME,
};

/// How long the server may take to answer about itself.
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// How long a way to the server and back may take.
const ROUND_TRIP: Duration = Duration::from_secs(10);

/// What the server answers to a message whose answer is all that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Given,
    Nobody,
    Forbidden,
    /// None so far.
    Missing,
}

/// One connection to the server, which the client restores when it is lost.
pub(crate) struct Connection {
    pub(crate) client: Client,
    jetstream: OnceLock<JetStreamConfig>,
    pub(crate) names: Names,
    /// What the subjects of all replies to this connection begin with, with a dot at the end.
    inbox: String,
    replies: Arc<Replies>,
    provided: Arc<Provided>,
    connectivity: Connectivity,
    pub(crate) routes: Arc<Routes>,
    /// The route of all replies.
    pub(crate) inbox_route: Arc<Route>,
    pub(crate) refusals: Refusals,
    pub(crate) room: Room,
    /// Whether a stream keeps commands. The server cannot tell then that nobody serves one.
    pub(crate) keeps_commands: AtomicBool,
    /// Whether the stream of dead letters is there, with the limits that were asked for.
    pub(crate) letters_are_ensured: AtomicBool,
    /// Whether the stream of notes is there.
    pub(crate) releases_are_ensured: AtomicBool,
    /// When which stream was found to be there last, for those who all miss it at once.
    pub(crate) ensured: tokio::sync::Mutex<Option<(StreamKind, Instant)>>,
    /// The streams that were there.
    pub(crate) known_streams: Mutex<BTreeSet<String>>,
    next_inbox: AtomicU64,
}

/// Tells one connection of the client from the next.
pub(crate) type ConnectionId = (String, u64);

purista_core::connected!(Connection);

impl Connection {
    pub(crate) async fn open(config: &Config, link: Link, until: Instant) -> Result<Arc<Self>> {
        let closing = CancellationToken::new();
        let (events, told) = mpsc::channel(128);
        let was_connected = Arc::new(AtomicBool::new(false));
        let replies = Arc::new(Replies::default());
        let provided = Arc::<Provided>::default();
        let client = connect(config, &link, &events, &replies, &provided, &was_connected, &closing).await?;
        drop(events);
        was_connected.store(true, Ordering::Release);
        let inbox = format!("{}.{}.", config.inbox_prefix, Id::random());
        let subscriber = client.subscribe(format!("{inbox}*")).await.map_err(from_subscribe)?;
        let routes = Arc::new(Routes::default());
        let inbox_route = routes.add(format!("{inbox}*"), None, None);
        let connection = Arc::new(Self {
            client,
            jetstream: OnceLock::new(),
            names: Names::new(&config.connection.prefix, config.empty_part.as_deref())?,
            inbox,
            replies: Arc::clone(&replies),
            provided,
            connectivity: Connectivity::new(NAME, link.clone(), closing.clone()),
            routes: Arc::clone(&routes),
            inbox_route: Arc::clone(&inbox_route),
            refusals: Refusals::default(),
            room: Room::default(),
            keeps_commands: AtomicBool::new(false),
            letters_are_ensured: AtomicBool::new(false),
            releases_are_ensured: AtomicBool::new(false),
            ensured: tokio::sync::Mutex::new(None),
            known_streams: Mutex::default(),
            next_inbox: AtomicU64::new(0),
        });
        let attempt = connection.routes.attempt(&inbox_route.subject, None);
        let reader = Reader { prefix: connection.inbox.len(), replies, link };
        tokio::spawn(reader.read(Subscription::new(subscriber, inbox_route), closing.clone()));
        let id = connection.id();
        tokio::spawn(supervise(Arc::downgrade(&connection), told, closing.clone(), id));
        connection.confirm(&attempt).await?;
        tokio::spawn(heal(Arc::downgrade(&connection), routes, closing));
        if let Some(jetstream) = &config.jetstream
            && connection.has_jetstream(until).await?
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
                return error(kind, "send").with_source(cause);
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
        let inbox = |token| Subject::from(self.inbox_of(token));
        let mut reply = self.replies.expect_by(inbox, ROUND_TRIP);
        self.publish(inbox(reply.token()), None, None, Bytes::new()).await?;
        match reply.received().await {
            Ok(_) => Ok(()),
            Err(NoReply::Lost) => {
                Err(error(ErrorKind::Unavailable, "send").with_context("the inbox gets nothing"))
            }
            Err(NoReply::Forbidden) => {
                Err(error(ErrorKind::Forbidden, "send").with_context("publishing to the own inbox"))
            }
        }
    }

    /// Publishes something whose answer is all that matters.
    pub(crate) async fn ping(&self, subject: Subject, payload: Bytes, until: Instant) -> Answer {
        let patience = until.saturating_duration_since(Instant::now());
        let Ok(mut reply) = self.publish_for_reply(subject, None, payload, patience).await else {
            return Answer::Missing;
        };
        match timeout_at(until, reply.received()).await {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Answer::Nobody,
            Ok(Ok(_)) => Answer::Given,
            Ok(Err(NoReply::Forbidden)) => Answer::Forbidden,
            Ok(Err(NoReply::Lost)) | Err(_) => Answer::Missing,
        }
    }

    /// Asks a service of the server; `None` if it gives no answer to us.
    pub(crate) async fn ask_server(&self, subject: &'static str, request: Bytes) -> Option<Bytes> {
        let subject = Subject::from_static(subject);
        let mut reply = self.publish_for_reply(subject, None, request, SERVER_PATIENCE).await.ok()?;
        match timeout(SERVER_PATIENCE, reply.received()).await {
            Ok(Ok(message)) if message.status.is_none() => Some(message.payload),
            Ok(_) | Err(_) => None,
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
        match reply.try_received() {
            Some(Ok(message)) => Ok(message.status != Some(StatusCode::NO_RESPONDERS)),
            Some(Err(NoReply::Forbidden)) => Err(error(ErrorKind::Forbidden, "send")),
            Some(Err(NoReply::Lost)) => Err(error(ErrorKind::Unavailable, "send")),
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
        match reply.try_received() {
            Some(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(error(ErrorKind::Unroutable, "emit"))
            }
            Some(Err(NoReply::Forbidden)) => Err(error(ErrorKind::Forbidden, "emit")),
            Some(Err(NoReply::Lost)) => Err(error(ErrorKind::Unavailable, "emit")),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Waits until the server has done what was sent before, and its refusal has been heard.
    pub(crate) async fn round_trip_after_refusal(&self) -> Result<()> {
        // A refusal comes before the first round trip is over, but on another way: the second one gives it time.
        self.round_trip().await?;
        self.round_trip().await
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

    /// Notes why an attempt to connect again failed.
    pub(crate) fn not_connected_again(&self, why: &ClientError) {
        if !self.is_connected() {
            let said = || error(ErrorKind::Unavailable, "start").with_context(why.to_string());
            self.link().not_connected_again(&self.provided.failure().unwrap_or_else(said));
        }
    }

    pub(crate) fn lose_replies(&self) {
        self.replies.lose_all();
    }

    pub(crate) fn lost(&self) {
        self.lose_replies();
        self.went_down("the connection to the server was lost");
    }

    /// Notes that no replies come: to commands, to what is published, to questions. Nothing works without them.
    pub(crate) fn lost_replies(&self, cause: &str) {
        self.inbox_route.lose(cause);
        self.lose_replies();
        self.went_down(&format!("no replies come from the server: {cause}"));
    }

    pub(crate) fn has_inbox(&self) -> bool {
        !self.inbox_route.is_lost()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(crate) fn id(&self) -> ConnectionId {
        let info = self.client.server_info();
        (info.server_id, info.client_id)
    }

    pub(crate) fn server_info(&self) -> async_nats::ServerInfo {
        self.client.server_info()
    }

    /// Gives up what has the longest subject, as the server ends the connection for it.
    pub(crate) fn forbid_longest(&self) {
        self.replies.forbid_longest();
    }

    pub(crate) fn is_inbox_of_somebody(&self, subject: &str) -> bool {
        let prefix = self.inbox.trim_end_matches('.').rsplit_once('.').map_or("", |(prefix, _)| prefix);
        subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}
