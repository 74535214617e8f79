use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use purista_core::{Result, ServiceAddress};

/// A broker that belongs to one trial, with a network between it and the bridges that can be broken.
#[async_trait]
pub trait Broker: Debug + Send + Sync + 'static {
    /// Ends its process politely; returns when it has ended.
    ///
    /// # Errors
    ///
    /// Why it did not end.
    async fn terminate(&self) -> Result<()>;

    /// Kills its process.
    ///
    /// # Errors
    ///
    /// Why it did not end.
    async fn kill(&self) -> Result<()>;

    /// Starts it again on the same address and data; returns when it takes connections.
    ///
    /// # Errors
    ///
    /// Why it did not start.
    async fn start(&self) -> Result<()>;

    /// Removes all its data while it does not run.
    ///
    /// # Errors
    ///
    /// Why it could not.
    async fn wipe(&self) -> Result<()>;

    /// Takes the consumer of a durable subscriber away while its bridge is connected, as an operator can. Messages that
    /// wait for it may be lost with it.
    ///
    /// # Errors
    ///
    /// Why it could not; also if there is no such consumer.
    async fn cancel_consumer(&self, subscriber: &ServiceAddress) -> Result<()>;

    /// Returns the ways in which registrations can stop consuming here while their bridge stays connected.
    fn stoppages(&self) -> &[Arc<dyn Stoppage>] {
        &[]
    }

    /// Returns whether a consumer has a connection of its own, which
    /// [`cancel_consumer`](Self::cancel_consumer) ends with it.
    fn consumers_have_connections(&self) -> bool {
        false
    }

    /// Breaks the network between the bridges and the broker.
    fn break_network(&self, how: NetworkFault);

    /// Ends what lasts of [`break_network`](Self::break_network). Connections that were silent live on.
    fn mend_network(&self);

    /// Returns how many connections to the broker were tried so far, successful or not.
    fn connection_attempts(&self) -> usize;
}

/// A way in which registrations stop consuming while their bridge stays connected: a right that is withdrawn, a queue
/// that is deleted, a quota that is reached.
#[async_trait]
pub trait Stoppage: Send + Sync + 'static {
    /// Returns what happens, such as `the queue is deleted`.
    fn name(&self) -> &'static str;

    /// Stops the consumption of this command, this subscriber, or both; returns when the broker has done so.
    ///
    /// # Errors
    ///
    /// Why the broker did not do so.
    async fn begin(&self, command: &ServiceAddress, subscriber: &ServiceAddress) -> Result<()>;

    /// Undoes the stop, where that is an operator's task; returns when the broker has done so.
    ///
    /// # Errors
    ///
    /// Why the broker did not do so.
    async fn end(&self) -> Result<()>;
}

/// A way to break the network. What says *until mended* applies to new connections too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkFault {
    /// Resets each connection, once.
    Reset,
    /// Closes each connection in order, once.
    Close,
    /// Closes each connection after so many more bytes from the broker or to it, likely in the middle of a frame.
    CutAfter(usize),
    /// Resets each connection, and refuses new ones until mended.
    Down,
    /// Keeps connections open and carries nothing in either direction until mended; what was sent meanwhile is lost
    /// with the connection or arrives after that.
    Silence,
    /// Takes nothing more from the bridges until mended, as a broker does that stops reading.
    Stall,
    /// Delays everything until mended.
    Delay(Duration),
    /// Carries only so many bytes a second in each direction until mended.
    Throttle(usize),
}

/// How a deployment is secured, and whether its bridges are right about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// The connection is encrypted; bridges trust one authority.
    Tls(BrokerCertificate, ClientCertificate),
    /// The broker asks for credentials. All secrets hold [`SECRET`].
    Login(Login),
}

/// What the broker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerCertificate {
    /// A certificate of the authority that bridges trust, for the host they connect to.
    Trusted,
    /// A certificate of another authority.
    OtherAuthority,
    /// A certificate of the right authority for another host.
    OtherHost,
    /// A certificate of the right authority that has expired.
    Expired,
    /// A certificate that signed itself.
    SelfSigned,
    /// Nothing: it speaks plain text, to bridges that are told to encrypt. It takes whoever comes in plain text.
    Absent,
}

/// What the bridges show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificate {
    /// Nothing, and the broker does not ask.
    NotAsked,
    /// What the broker wants to see.
    Right,
    /// Nothing, although the broker asks.
    Missing,
    /// A certificate of another authority than the broker trusts.
    OtherAuthority,
}

/// The credentials of the bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login {
    /// They are right.
    Right,
    /// The password is wrong.
    WrongPassword,
    /// They are right, but do not allow to publish events.
    MayNotPublish,
    /// They are right, but do not allow to subscribe to commands.
    MayNotSubscribe,
    /// They are right, but do not allow to publish [`FORBIDDEN_EVENT`].
    MayNotPublishOneEvent,
}

/// The name of the event that [`Login::MayNotPublishOneEvent`] forbids.
pub const FORBIDDEN_EVENT: &str = "forbidden";

/// A text that is part of every password and token of a secured deployment, and must not be shown anywhere.
pub const SECRET: &str = "m4rked-s3cret";
