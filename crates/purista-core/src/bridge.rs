//! The contract of every adapter.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    capability::Capabilities,
    dead_letters::DeadLetters,
    error::{InvokeError, Result},
    events::BridgeEvents,
    grant::Granted,
    handler::{CommandHandler, SubscriptionHandler},
    health::Health,
    message::{CommandDraft, EventDraft, Id, Message, ServiceAddress},
    options::{Command, EmitOptions, InvokeOptions, Subscription},
    stats::Stats,
};

/// Carries messages between services; only the bridge knows the message broker.
///
/// Users hold it as `Arc<dyn EventBridge>` and call the typed methods of [`EventBridgeExt`](crate::EventBridgeExt).
/// Adapters implement it through [`Engine`](crate::adapter::Engine).
///
/// # Contract
///
/// The same on every adapter. The rows of the conformance suite that prove a rule stand behind it.
///
/// 1. **Stamped by the bridge.** Id, timestamp and the sender's instance id are the bridge's, and a message arrives as
///    it was sent, to the digit. (`ENV-1` `ENV-2` `ENV-4` `PAY-1` `PAY-2` `PAY-7`)
/// 2. **One instance answers.** A command reaches exactly one instance of its address, and its answer reaches exactly
///    its caller: a result, a handled error as the service gave it, or an unhandled error that tells nothing of its
///    cause. (`RPC-1` `RPC-2` `RPC-3` `GRP-7` `ERR-1` `ERR-2` `ERR-3`)
/// 3. **Time limits hold** to the millisecond on the caller's side, connected or not; a command that waited longer is
///    not executed, and what a handler calls on behalf of its caller ends when that one stops waiting.
///    (`TMO-1` `TMO-2` `TMO-3` `TMO-4` `TMO-5` `NET-10`)
/// 4. **Emitted means taken over.** `emit_message` returns after the broker took responsibility, or fails.
///    (`DUR-4` `DUR-6` `DUR-7` `LIM-3` `NET-10`)
/// 5. **Subscriptions see every kind of message** by any combination of the fields of a
///    [`Filter`](crate::Filter); different subscribers each get a message, the instances of one share it or each get
///    it. Durable ones miss nothing while their service is away.
///    (`GRP-1` `GRP-2` `GRP-3` `GRP-4` `GRP-5` `RPC-6` `DUR-1` `DUR-3` `DUR-4` `DUR-5`)
/// 6. **The matcher decides.** The verdict of [`Filter::matches`](crate::Filter::matches) holds whatever the broker
///    routed; a command whose exact address is not registered is refused to its caller.
///    (`MAT-1` `MAT-2` `MAT-4` `MAT-6` `IDN-1`)
/// 7. **Acknowledged when handled.** A failing handler is tried again with delay, up to its attempts, then the message
///    becomes a dead letter; a panic is a failure like any other.
///    (`ACK-1` `ACK-2` `ACK-3` `ACK-4` `ACK-5` `ACK-6` `ACK-7` `ACK-9` `ACK-10` `ACK-12` `ACK-13`
///    `ACK-14`)
/// 8. **An option that is set is met or refused** with [`Unsupported`](crate::ErrorKind::Unsupported) before anything
///    exists on the broker; [`Registration::granted`] returns the effective value of the others. (`DUR-9` `MAT-3`)
/// 9. **Registered means live.** A message sent right after the registration arrives; after the unregistration none
///    does. (`LIF-2` `LIF-3` `LIF-5` `LIF-6`)
/// 10. **Order.** At concurrency 1, the messages of a sender keep their order, except for a message that is retried: later
///     ones do not wait for it. (`ORD-1` `ACK-6`)
/// 11. **Everything is bounded**: handlers, calls, queues, payloads, names, waits.
///     (`LIM-1` `LIM-3` `LIM-4` `LIM-5` `LIM-6` `NET-10` `PAY-3` `PAY-4` `PAY-6` `IDN-3`)
/// 12. **A shutdown loses nothing.** It takes nothing new, lets handlers finish and emit, answers or fails what is
///     pending, gives back what was not started, and never hangs. (`LIF-1` `LIF-4` `LIF-7` `LIF-8` `LIF-9` `LIF-10`)
///     A bridge whose runtime is gone, or that was copied by a fork, fails everything with
///     [`ShutDown`](crate::ErrorKind::ShutDown) at once, and is unhealthy. (`LIF-11`)
/// 13. **A lost connection is restored** with all its consumers, and [`health`](Self::health) reports the loss
///     meanwhile.
///     (`HLT-1` `HLT-2` `HLT-3` `NET-1` `NET-2` `NET-3` `NET-4` `NET-6` `NET-7` `NET-8` `NET-9`)
/// 14. **Bad input is counted and survived**, and names from users are never wildcards, separators or headers.
///     (`SEC-3` `SEC-4` `SEC-5` `SEC-6`)
/// 15. **The trace goes along** with each message. (`OBS-1`)
/// 16. **A connection is secured as it is configured**, and secrets are shown nowhere. (`SEC-1` `SEC-2` `SEC-9`)
#[async_trait]
pub trait EventBridge: Debug + Send + Sync + 'static {
    /// Returns the name of the adapter, such as `default`.
    fn name(&self) -> &'static str;

    /// Returns the id of this instance, which its messages carry.
    fn instance_id(&self) -> &Id;

    /// Returns what this instance supports. After the start it may be less than before: what the live broker allows.
    fn capabilities(&self) -> Capabilities;

    /// Connects, and starts to consume all that is registered.
    ///
    /// Does nothing if it is started.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout),
    /// [`Backpressure`](crate::ErrorKind::Backpressure),
    /// [`Unauthenticated`](crate::ErrorKind::Unauthenticated), [`Forbidden`](crate::ErrorKind::Forbidden) or
    /// [`Tls`](crate::ErrorKind::Tls) if it cannot connect, and
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if what it is configured with cannot be used, such as
    /// the file of a certificate. [`Unsupported`](crate::ErrorKind::Unsupported) or
    /// [`TopologyMismatch`](crate::ErrorKind::TopologyMismatch) if the broker gives less than a registration
    /// needs, or holds something else under its name.
    /// [`AlreadyRegistered`](crate::ErrorKind::AlreadyRegistered) if another instance has this instance id.
    /// [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown, and
    /// [`Unexpected`](crate::ErrorKind::Unexpected) outside of a runtime. A start that failed can be tried
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the start goes on.
    async fn start(&self) -> Result<()>;

    /// Sends an event or another message that expects no answer, and returns it as it was sent.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout), [`Backpressure`](crate::ErrorKind::Backpressure) or
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the broker did not take responsibility for it in time:
    /// it may arrive all the same. [`Unroutable`](crate::ErrorKind::Unroutable) if nobody gets it who must.
    /// [`PayloadTooLarge`](crate::ErrorKind::PayloadTooLarge),
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage) and
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) (the options) if it cannot be sent as it is, and
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the bridge cannot do what the options ask for.
    /// [`Forbidden`](crate::ErrorKind::Forbidden), [`TopologyMismatch`](crate::ErrorKind::TopologyMismatch) or
    /// [`Unexpected`](crate::ErrorKind::Unexpected) if the broker refuses it.
    /// [`NotStarted`](crate::ErrorKind::NotStarted) and [`ShutDown`](crate::ErrorKind::ShutDown): it was not
    /// sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the message may have been sent.
    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>>;

    /// Sends a command to one instance of its receiver, and returns the success response.
    ///
    /// # Errors
    ///
    /// [`InvokeError::Handled`] and [`InvokeError::Unhandled`] are the service's answer.
    /// [`InvokeError::Bridge`] has one of these kinds:
    ///
    /// - [`NoHandler`](crate::ErrorKind::NoHandler) if nobody serves the command, or the instance that was asked
    ///   for it is not there;
    /// - [`OtherInstance`](crate::ErrorKind::OtherInstance) if another instance than the one that was asked has
    ///   executed the command and answered;
    /// - [`InvalidMessage`](crate::ErrorKind::InvalidMessage) if the answer cannot be read: the command was
    ///   executed;
    /// - [`Timeout`](crate::ErrorKind::Timeout) at the time limit: the command may be executed; also at the one of the
    ///   caller on whose behalf a handler calls, which the error says then: what began later was not sent;
    /// - [`Backpressure`](crate::ErrorKind::Backpressure) if too many calls are pending, or the broker has no
    ///   room for the command;
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) if the connection was lost: the command may be executed;
    /// - those of [`emit_message`](Self::emit_message) but [`Unroutable`](crate::ErrorKind::Unroutable).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and frees the call; the command may be executed.
    async fn invoke_command(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
    ) -> Result<Arc<Message>, InvokeError>;

    /// Serves a command. After the start, it is live on return; before, from the start on.
    ///
    /// # Errors
    ///
    /// [`AlreadyRegistered`](crate::ErrorKind::AlreadyRegistered) if its address is taken.
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if an option asks for more than the bridge gives,
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if an option is invalid, and
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage) if a name is.
    /// [`TopologyMismatch`](crate::ErrorKind::TopologyMismatch) if the broker holds something else under its
    /// name, [`Forbidden`](crate::ErrorKind::Forbidden) if the broker does not allow it.
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Backpressure`](crate::ErrorKind::Backpressure) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the broker does not serve it in time.
    /// [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown, and
    /// [`Unexpected`](crate::ErrorKind::Unexpected) outside of a runtime. Nothing is registered then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the registration goes on.
    async fn register_command(
        &self,
        command: Command,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Registration>;

    /// Serves a subscription. After the start, it is live on return; before, from the start on.
    ///
    /// # Errors
    ///
    /// As [`register_command`](Self::register_command).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the registration goes on.
    async fn register_subscription(
        &self,
        subscription: Subscription,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> Result<Registration>;

    /// Returns the health of the bridge.
    fn health(&self) -> Health;

    /// Returns the events of the bridge from now on.
    fn events(&self) -> BridgeEvents;

    /// Returns what the bridge has counted.
    fn stats(&self) -> Stats;

    /// Returns the dead letters of the bridge's deployment, to list them, to send them to their subscriber again, or to
    /// give them up. (`DLQ-1` `DLQ-2` `DLQ-3` `DLQ-4` `DLQ-5`)
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the adapter, as it is configured, cannot read them.
    fn dead_letters(&self) -> Result<Arc<dyn DeadLetters>>;

    /// Stops taking work, waits up to `grace` for what runs, then cancels the rest, and disconnects.
    ///
    /// Subscriptions stop first, then commands, so that a subscription's handler can still invoke commands of this bridge;
    /// a command's handler that invokes one is told [`NoHandler`](crate::ErrorKind::NoHandler). Can be called
    /// in any state and more than once: the first call counts, every caller gets the same report. Returns within 250 ms
    /// after the grace period, which is one day at the most.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the shutdown goes on.
    #[doc(alias = "destroy")]
    async fn shutdown(&self, grace: Duration) -> ShutdownReport;
}

/// What a shutdown left unfinished.
///
/// ```
/// use purista_core::EventBridge as _;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.start().await?;
/// let report = bridge.shutdown(Duration::from_secs(10)).await;
/// assert!(report.is_clean(), "{report:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Handlers that did not finish within the grace period.
    pub cancelled_handlers: usize,
    /// Own calls that had no answer within the grace period.
    pub failed_calls: usize,
    /// What went wrong while disconnecting.
    pub errors: Vec<String>,
}

impl ShutdownReport {
    /// Returns whether everything finished within the grace period.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.cancelled_handlers == 0 && self.failed_calls == 0 && self.errors.is_empty()
    }
}

/// A command or subscription that a bridge serves until it is unregistered or the bridge shuts down.
///
/// Dropping it changes nothing.
///
/// ```
/// use purista_core::{Context, ErrorKind, EventBridge as _, EventBridgeExt as _, Service};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greeter = Service::new("Greeter", "1")
///     .command("greet", |_: Context, name: String| async move { Ok(format!("Hello, {name}!")) });
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// let registrations = bridge.serve([greeter]).await?;
/// assert_eq!(registrations[0].address().to_string(), "Greeter v1 greet");
/// assert_eq!(registrations[0].granted().max_concurrency, purista_core::DEFAULT_CONCURRENCY);
/// registrations[0].unregister().await?;
/// let gone = bridge.invoke::<String>(("Greeter", "1", "greet"), "Ada").await.unwrap_err();
/// assert_eq!(gone.bridge_kind(), Some(ErrorKind::NoHandler));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Registration {
    address: ServiceAddress,
    control: Arc<dyn RegistrationControl>,
}

impl Registration {
    /// Creates a registration; for those who implement [`EventBridge`].
    #[must_use]
    pub fn new(address: ServiceAddress, control: Arc<dyn RegistrationControl>) -> Self {
        Self { address, control }
    }

    /// Returns the address of the command or subscriber.
    #[must_use]
    pub const fn address(&self) -> &ServiceAddress {
        &self.address
    }

    /// Returns the effective options. Before the start, they are what the adapter expects; an option that was left unset
    /// may become less if the live broker supports less.
    #[must_use]
    pub fn granted(&self) -> Granted {
        self.control.granted()
    }

    /// Stops the delivery: no handler starts after it returned; one that runs finishes and is acknowledged. Leaves
    /// nothing on the broker but what is durable: what waits for a subscription that is not durable is given up. Does
    /// nothing the second time, or after a shutdown. A handler may unregister itself.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the adapter cannot.
    /// [`Timeout`](crate::ErrorKind::Timeout) if the broker does not end the delivery in time; it goes on to
    /// end in the background. [`ShutDown`](crate::ErrorKind::ShutDown) during a shutdown, which stops the
    /// delivery itself, or if the runtime is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the unregistration goes on.
    pub async fn unregister(&self) -> Result<()> {
        self.control.unregister().await
    }
}

/// What is behind a [`Registration`].
#[async_trait]
pub trait RegistrationControl: Debug + Send + Sync + 'static {
    /// Returns what [`Registration::granted`] returns.
    fn granted(&self) -> Granted;

    /// Does what [`Registration::unregister`] promises.
    async fn unregister(&self) -> Result<()>;
}
