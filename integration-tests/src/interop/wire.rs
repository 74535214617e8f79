use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use purista_core::{EventBridge, ServiceAddress};
use serde_json::Value;

use super::frame::{Call, Event, Frame};
use crate::samples;

/// What comes to a peer.
pub type Came = BoxStream<'static, Frame>;

/// How the original uses a broker, on a place of its own there.
///
/// Nothing here returns an error: an implementation belongs to a test, and fails it.
#[async_trait]
pub trait Wire: Sized + Send + Sync + 'static {
    /// Commands of the original and its answers, one [`Call`] in each line.
    const CALLS: &'static str;

    /// Events of the original, one [`Event`] in each line.
    const EVENTS: &'static str;

    /// Finds a place that nobody else uses.
    async fn start() -> Self;

    /// Finds one whose bridges can keep messages for a subscriber that is away.
    #[must_use]
    async fn start_keeping() -> Self {
        Self::start().await
    }

    /// Starts a bridge of ours, which works together with the original.
    async fn bridge(&self, instance_id: Option<&str>) -> Arc<dyn EventBridge>;

    /// Starts an instance of the original.
    async fn peer(&self) -> Arc<dyn Peer>;

    /// Lets what stands outside of a message follow the message, whose ids and receiver were changed. An answer goes
    /// back to where the command that it answers came from.
    fn follow(frame: &mut Frame, asked: Option<&Frame>);

    /// Takes out all outside of a message that the original can do without.
    fn strip(frame: &mut Frame);

    /// Checks what differs outside with each message, or between ours and the original for a reason, and takes it out.
    fn comparable(&self, frame: Frame, whose: Whose) -> Frame;

    /// Reads the calls.
    fn calls() -> Result<Vec<Call>> {
        samples::read(Self::CALLS)
    }

    /// Reads the call of this case.
    fn call(case: &str) -> Result<Call> {
        Self::calls()?.into_iter().find(|call| call.case == case).with_context(|| format!("no {case}"))
    }

    /// Reads the events.
    fn events() -> Result<Vec<Event>> {
        samples::read(Self::EVENTS)
    }

    /// Reads the event of this case.
    fn event(case: &str) -> Result<Event> {
        Self::events()?.into_iter().find(|event| event.case == case).with_context(|| format!("no {case}"))
    }
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum Whose {
    /// A bridge of ours.
    Ours,
    /// The original: it is a sample.
    Original,
}

/// An instance of the original: a plain client of the broker, which knows nothing of bridges.
#[async_trait]
pub trait Peer: Send + Sync {
    /// Begins to listen; returns when the broker routes to it.
    async fn listen(&self, to: Interest<'_>) -> Came;

    /// Sends a body with what stands outside; a command is answered to this instance.
    async fn send_body(&self, outside: &Value, body: Bytes);

    /// Sends a message.
    async fn send(&self, frame: &Frame) {
        self.send_body(&frame.outside, frame.body.to_string().into()).await;
    }
}

/// What an instance of the original listens to.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each wire has to know all of them")]
pub enum Interest<'a> {
    /// The answers to its commands, by its instance id.
    Answers(&'a str),
    /// A command that it serves, together with its other instances.
    Command(&'a ServiceAddress),
    /// A subscription.
    Subscription(Subscriber<'a>),
}

impl<'a> Interest<'a> {
    /// Returns the headers by which messages are chosen.
    #[must_use]
    pub fn wanted(&self) -> Vec<(&'a str, &'a str)> {
        match *self {
            Self::Answers(instance_id) => vec![("receiverInstanceId", instance_id)],
            Self::Command(ServiceAddress { service_name, service_version, service_target, .. }) => vec![
                ("messageType", "command"),
                ("receiverServiceName", service_name),
                ("receiverServiceVersion", service_version),
                ("receiverServiceTarget", service_target),
            ],
            Self::Subscription(Subscriber { wanted, .. }) => wanted.to_vec(),
        }
    }
}

/// A subscription of the original.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Subscriber<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The headers by which it chooses messages.
    pub wanted: &'a [(&'a str, &'a str)],
    /// Whether its instances share what comes.
    pub is_shared: bool,
    /// Whether it keeps messages while it is away, if the wire knows that.
    pub is_durable: bool,
}

impl<'a> Subscriber<'a> {
    /// Makes one that shares and is not durable.
    #[must_use]
    pub const fn new(name: &'a str, wanted: &'a [(&'a str, &'a str)]) -> Self {
        Self { name, wanted, is_shared: true, is_durable: false }
    }
}
