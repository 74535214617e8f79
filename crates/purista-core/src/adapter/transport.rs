use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{DeadLetter, DeadLetterReader, Intake, Link, ReadFrom, inspection::unsupported};
use crate::{
    capability::Capabilities,
    error::Result,
    message::Message,
    options::{Command, Subscription},
};

/// What an adapter brings: how messages map onto one broker. All the rest is in [`Engine`](super::Engine).
///
/// No method needs a time limit of its own or checks what the engine has checked. The engine drops a future whose time
/// is over; what was begun must then leave nothing consuming. It calls nothing but
/// [`capabilities`](Self::capabilities) before [`connect`](Self::connect) succeeded, and
/// [`disconnect`](Self::disconnect) after one that failed or was dropped.
pub trait Transport: Debug + Send + Sync + Sized + 'static {
    /// Consumes one registration's messages.
    type Consumer: Consumer;

    /// Where the answer to a command goes, in the broker's terms.
    type ReplyTo: Send + 'static;

    /// The name of the adapter, such as `nats`; also OpenTelemetry's `messaging.system`.
    const NAME: &'static str;

    /// Returns what this configured instance gives; once it is connected, what the live broker allows of it.
    fn capabilities(&self) -> Capabilities;

    /// Connects. Afterwards the transport keeps the connection, restores it and all its consumers when it is lost, and
    /// tells the link. May be called again after it failed, or after [`disconnect`](Self::disconnect).
    fn connect(&self, link: Link) -> impl Future<Output = Result<()>> + Send;

    /// Sends a message that expects no answer. Returns after the broker took responsibility.
    fn publish(&self, message: Arc<Message>, publish: Publish) -> impl Future<Output = Result<()>> + Send;

    /// Sends a command. Returns when it is on its way, or fails with
    /// [`NoHandler`](crate::ErrorKind::NoHandler) if the broker can tell; the answer comes through
    /// [`Link::respond`].
    fn request(&self, command: Arc<Message>, deadline: Instant) -> impl Future<Output = Result<()>> + Send;

    /// Sends the answer to a command back to its caller, and to subscriptions that want to see it.
    fn respond(
        &self,
        response: Arc<Message>,
        reply_to: Self::ReplyTo,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Tells a caller that its command came to the wrong address. Where addresses share a route, the response has to be
    /// marked, and handed to [`Link::receive`] at the other end: the right one may answer as well.
    fn refuse(
        &self,
        refusal: Arc<Message>,
        reply_to: Self::ReplyTo,
    ) -> impl Future<Output = Result<()>> + Send {
        self.respond(refusal, reply_to)
    }

    /// Starts to consume a command. Returns when the broker routes it to us.
    fn consume_command(
        &self,
        command: &Command,
        intake: Intake<Self>,
    ) -> impl Future<Output = Result<Self::Consumer>> + Send;

    /// Starts to consume a subscription. Returns when the broker routes its messages to us.
    fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> impl Future<Output = Result<Self::Consumer>> + Send;

    /// Is called at the start when all that was registered consumes, for a broker that asks once what that is. The start
    /// fails with it.
    fn opened(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Keeps a dead letter. Returns after the broker took responsibility.
    fn keep_dead_letter(&self, letter: DeadLetter) -> impl Future<Output = Result<()>> + Send;

    /// Begins to read the dead letters, for who claims
    /// [`DeadLetterInspection`](crate::Capability::DeadLetterInspection).
    fn read_dead_letters(
        &self,
        _from: ReadFrom,
    ) -> impl Future<Output = Result<Box<dyn DeadLetterReader>>> + Send {
        std::future::ready(Err(unsupported()))
    }

    /// Sends the original of a dead letter to its subscriber alone, as a message that was never tried, and tells beside it
    /// how often it was redriven. Returns after the broker took responsibility, or fails with
    /// [`Unroutable`](crate::ErrorKind::Unroutable) if the subscriber is not there.
    fn redeliver(&self, _letter: DeadLetter) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Err(unsupported()))
    }

    /// Flushes what is under way and disconnects.
    fn disconnect(&self) -> impl Future<Output = Result<()>> + Send;
}

/// How [`Transport::publish`] sends.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Publish {
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whether to fail with [`Unroutable`](crate::ErrorKind::Unroutable) if nobody gets the message.
    pub must_route: bool,
}

impl Publish {
    pub(super) const fn new(deadline: Instant, must_route: bool) -> Self {
        Self { deadline, must_route }
    }
}

/// Why a [`Consumer`] stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The registration ends; its bridge goes on.
    Unregistered,
    /// The bridge shuts down.
    ShutDown,
}

/// The consuming end of one registration.
pub trait Consumer: Send + Sync + 'static {
    /// Takes no more deliveries, and gives back to the broker what was not handed to the intake. Deliveries that were
    /// can still be acknowledged. Drops the slots that it holds. This is dropped when its time is over: on a shutdown,
    /// at the end of the grace period.
    fn stop(&self, why: Stop) -> impl Future<Output = ()> + Send;

    /// Ends it after the last acknowledgement, and leaves nothing on the broker but what is durable.
    fn close(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A message that the broker delivered for one registration.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery<R> {
    /// The message.
    pub message: Arc<Message>,
    /// The message as it came from the wire; encoded again for a dead letter where there was no wire.
    pub original: Option<Bytes>,
    /// When a command's caller stops waiting, by this machine's clock.
    pub deadline: Option<Instant>,
    /// How often it was delivered, this time included, where the broker counts.
    pub attempt: u32,
    /// How often it was a dead letter that was sent again.
    pub redrives: u32,
    /// Where the answer to a command goes; `None` if nobody waits for it.
    pub reply_to: Option<R>,
    /// How the broker learns what became of it; `None` if it does not want to know.
    pub acknowledgement: Option<Box<dyn Acknowledgement>>,
}

impl<R> Delivery<R> {
    /// Creates a delivery of the first attempt that nobody waits for.
    #[must_use]
    pub const fn new(message: Arc<Message>) -> Self {
        Self {
            message,
            original: None,
            deadline: None,
            attempt: 1,
            redrives: 0,
            reply_to: None,
            acknowledgement: None,
        }
    }

    /// Adds where the answer goes and when the caller stops waiting.
    #[must_use]
    pub fn with_reply_to(mut self, reply_to: R, deadline: Option<Instant>) -> Self {
        self.reply_to = Some(reply_to);
        self.deadline = deadline;
        self
    }

    /// Adds how the broker learns what became of it.
    #[must_use]
    pub fn with_acknowledgement(mut self, acknowledgement: Box<dyn Acknowledgement>) -> Self {
        self.acknowledgement = Some(acknowledgement);
        self
    }

    /// Keeps the bytes that came from the wire, for a dead letter.
    #[must_use]
    pub fn with_original(mut self, original: Bytes) -> Self {
        self.original = Some(original);
        self
    }

    /// Sets how often it was delivered.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt.max(1);
        self
    }

    /// Sets how often it was a dead letter that was sent again: what [`Transport::redeliver`] told beside it.
    #[must_use]
    pub const fn with_redrives(mut self, redrives: u32) -> Self {
        self.redrives = redrives;
        self
    }
}

/// How the broker learns what became of a delivery.
#[async_trait]
pub trait Acknowledgement: Debug + Send + Sync + 'static {
    /// It is done with: the broker may forget it.
    async fn accept(self: Box<Self>) -> Result<()>;

    /// It was not handled: the broker delivers it again, to whoever is there. After so many attempts that failed; the
    /// next one is the one after these, where the broker can keep the count.
    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()>;

    /// Returns how long the broker waits for an acknowledgement or an [`extend`](Self::extend) before it delivers the
    /// message again; `None` if it waits as long as the connection lives.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Asks the broker to wait on.
    async fn extend(&self) -> Result<()> {
        Ok(())
    }
}
