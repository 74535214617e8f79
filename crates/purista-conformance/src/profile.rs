use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use purista_core::{Error, ErrorKind, EventBridge, Result, ServiceAddress, adapter::DeadLetter};

use crate::{
    broker::{Broker, Security},
    original::{Original, Part},
};

/// One adapter on one kind of broker, configured one way.
#[async_trait]
pub trait Profile: Send + Sync + 'static {
    /// Returns the name, such as `nats-jetstream`.
    fn name(&self) -> &'static str;

    /// Prepares a place of its own for one trial: nothing that another trial sends reaches it.
    ///
    /// # Errors
    ///
    /// Why the broker is not there, with the command that installs it.
    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>>;

    /// Finds the place that another process prepared, by its [`location`](Deployment::location).
    ///
    /// # Errors
    ///
    /// Why it cannot be reached.
    async fn reach(&self, location: &str) -> Result<Arc<dyn Deployment>>;

    /// Names rows that this kind of broker cannot show, with the reason. Rows behind a capability that the adapter does
    /// not claim need not be named.
    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// What a trial wants to be different from the defaults.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeploymentOptions {
    /// How many calls can be pending on a bridge.
    pub max_pending_calls: Option<usize>,
    /// How many emits can wait for the broker on a bridge.
    pub max_pending_emits: Option<usize>,
    /// How many messages can wait for a subscriber at the broker.
    pub queue_capacity: Option<usize>,
    /// How many dead letters the broker keeps.
    pub dead_letter_capacity: Option<usize>,
    /// The largest payload in bytes.
    pub max_payload: Option<usize>,
    /// The largest message in bytes that the broker takes; bridges are not configured for it.
    pub max_broker_message: Option<usize>,
    /// Whether the trial needs a broker of its own, to break it: [`Deployment::broker`].
    pub own_broker: bool,
    /// Within which time a bridge and its broker notice that the other one is silent; within twice that, they act.
    pub keep_alive: Option<Duration>,
    /// How long the broker waits for an acknowledgement or a sign of life before it delivers again.
    pub lease: Option<Duration>,
    /// What the original's names at the broker are, where it lets its users choose them.
    pub original_names: OriginalNames,
    /// Whether bridges have the broker send as few messages without an acknowledgement as their builder allows.
    pub smallest_windows: bool,
    /// How the broker is secured, and whether the bridges are right about it.
    pub security: Option<Security>,
}

/// What the TypeScript original's names at the broker are, where it lets its users choose them beside the prefix: groups,
/// exchanges, the marker of what is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginalNames {
    /// Its defaults.
    #[default]
    Default,
    /// Others, which bridges and peers have.
    Chosen,
    /// Others, which only peers have: for bridges that are wrong about it.
    ChosenByPeers,
}

/// The place of one trial: a broker, or a part of one that is isolated from the others.
#[async_trait]
pub trait Deployment: Send + Sync + 'static {
    /// Creates one more bridge, which is not started: another instance of the same deployment.
    ///
    /// # Errors
    ///
    /// Those of the adapter's builder.
    fn bridge(&self) -> Result<Arc<dyn EventBridge>>;

    /// Puts bytes on the wire as a foreign peer can: on the route that the message in them asks for or, if they are no
    /// message, where every bridge sees them.
    ///
    /// # Errors
    ///
    /// Why the broker did not take them. A refusal of malformed bytes counts as their delivery.
    async fn inject(&self, bytes: Bytes) -> Result<()>;

    /// Delivers a message to a command or subscriber whatever its address or filter, as a broker does that routes
    /// wrongly. Returns whether there is such a command or subscriber.
    ///
    /// # Errors
    ///
    /// Why the broker did not take it.
    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool>;

    /// Puts a message on its route whose header names another tenant than it does itself. Returns whether messages have
    /// such headers here.
    ///
    /// # Errors
    ///
    /// Why the broker did not take it.
    async fn inject_with_tenant_header(&self, _bytes: Bytes, _tenant: &str) -> Result<bool> {
        Ok(false)
    }

    /// Delivers a message to a subscriber as a CloudEvent with these attributes, past the broker. Returns whether it was
    /// taken, or refused.
    ///
    /// # Errors
    ///
    /// Why it could not be delivered; also if messages are no CloudEvents here.
    async fn deliver_cloud_event(
        &self,
        _to: &ServiceAddress,
        _form: CloudEventForm,
        _attributes: &[(&str, &str)],
        _bytes: Bytes,
    ) -> Result<bool> {
        Err(Error::new(ErrorKind::Unexpected, "deliver").with_context("messages are no CloudEvents"))
    }

    /// Starts an instance of the TypeScript original; returns when the broker routes to it what it registers. Bridges that
    /// serve a command, or subscribe, with it must do nothing else, as what registers the same is one service.
    ///
    /// # Errors
    ///
    /// Why it could not start; also if the wire is not that of the original.
    async fn original(&self, _part: &Part) -> Result<Box<dyn Original>> {
        Err(Error::new(ErrorKind::Unexpected, "test").with_context("the wire is not that of the original"))
    }

    /// Returns whether instances of both languages share the messages of one subscriber. Otherwise each language gets all
    /// of them.
    fn shares_subscriptions_with_original(&self) -> bool {
        false
    }

    /// Returns whether an instance of ours passes on a command that it received for a named instance of the original.
    /// Otherwise the caller gets an error at once.
    fn hands_on_to_original(&self) -> bool {
        true
    }

    /// Returns how many messages a bridge may hold beyond those in the hands of its handlers, as they came in advance.
    fn prefetched(&self) -> usize {
        0
    }

    /// Returns whether the broker can keep somebody from publishing events alone, and not from all publishing.
    fn can_forbid_events_alone(&self) -> bool {
        true
    }

    /// Returns whether the broker can keep somebody from publishing one event: [`Login::MayNotPublishOneEvent`].
    ///
    /// [`Login::MayNotPublishOneEvent`]: crate::Login::MayNotPublishOneEvent
    fn can_forbid_one_event(&self) -> bool {
        false
    }

    /// Returns whether the broker can refuse large messages: [`DeploymentOptions::max_broker_message`].
    fn can_limit_messages(&self) -> bool {
        false
    }

    /// Counts the connections that bridges open and close as they need them, each with its task: none where a bridge has
    /// a fixed number of them.
    ///
    /// # Errors
    ///
    /// If they cannot be counted.
    fn pooled_connections(&self) -> Result<usize> {
        Ok(0)
    }

    /// Returns whether an event reaches other bridges than the one that emits it.
    fn events_cross_bridges(&self) -> bool {
        true
    }

    /// Returns whether an answer comes also to a caller that has given up: not where that ends the request whose response
    /// it would be.
    fn answers_come_late(&self) -> bool {
        true
    }

    /// Returns whether the broker can keep somebody from serving commands.
    fn can_forbid_commands(&self) -> bool {
        true
    }

    /// Returns whether the broker refuses what it has no place for: an event beyond [`DeploymentOptions::queue_capacity`],
    /// a dead letter beyond [`DeploymentOptions::dead_letter_capacity`].
    fn refuses_when_full(&self) -> bool {
        true
    }

    /// Takes the dead letters out of the broker, oldest first.
    ///
    /// # Errors
    ///
    /// Why they could not be read.
    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>>;

    /// Returns what is on the broker for this trial.
    ///
    /// # Errors
    ///
    /// Why the broker could not be asked.
    async fn inspect(&self) -> Result<BrokerReport>;

    /// Returns how many routes are on the broker for this trial; at once, also where it takes time to count messages.
    ///
    /// # Errors
    ///
    /// Why the broker could not be asked.
    async fn routes(&self) -> Result<usize> {
        self.inspect().await.map(|report| report.routes)
    }

    /// Returns the broker, if it belongs to this deployment alone.
    fn broker(&self) -> Option<&dyn Broker>;

    /// Returns where another process finds this deployment: what [`Profile::reach`] takes; `None` if none can.
    fn location(&self) -> Option<String>;
}

/// Where the attributes of a CloudEvent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloudEventForm {
    /// In one JSON object with the data.
    Structured,
    /// In headers, the data being the body.
    Binary,
}

/// What is on the broker for one trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerReport {
    /// Connected bridges.
    pub connections: usize,
    /// Queues, consumers, subscriptions and whatever else routes messages to bridges.
    pub routes: usize,
    /// Messages that wait to be delivered.
    pub queued: usize,
}

impl BrokerReport {
    /// Creates a report.
    #[must_use]
    pub const fn new(connections: usize, routes: usize, queued: usize) -> Self {
        Self { connections, routes, queued }
    }
}
