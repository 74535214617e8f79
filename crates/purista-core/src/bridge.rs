//! The contract of every adapter.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    capability::Capabilities,
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
///    not executed. (`TMO-1` `TMO-2` `TMO-3` `TMO-4` `NET-10`)
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
///    (`ACK-1` `ACK-2` `ACK-3` `ACK-4` `ACK-5` `ACK-6` `ACK-7` `ACK-9` `ACK-10` `ACK-12` `ACK-13`)
/// 8. **An option that is set is met or refused** with [`Unsupported`](crate::ErrorKind::Unsupported) before anything
///    exists on the broker; [`Registration::granted`] tells what the others became. (`DUR-9` `MAT-3`)
/// 9. **Registered means live.** A message sent right after the registration arrives; after the unregistration none
///    does. (`LIF-2` `LIF-3` `LIF-5` `LIF-6`)
/// 10. **Order** of one sender's messages is kept at concurrency 1, but for a message that is tried again: the next ones
///     do not wait for it. (`ORD-1` `ACK-6`)
/// 11. **Everything is bounded**: handlers, calls, queues, payloads, names, waits.
///     (`LIM-1` `LIM-3` `LIM-4` `LIM-5` `LIM-6` `NET-10` `PAY-3` `PAY-4` `PAY-6` `IDN-3`)
/// 12. **A shutdown loses nothing.** It takes nothing new, lets handlers finish and emit, answers or fails what is
///     pending, gives back what was not started, and never hangs. (`LIF-1` `LIF-4` `LIF-7` `LIF-8` `LIF-9` `LIF-10`)
///     A bridge whose runtime is gone, or that was copied by a fork, fails everything with
///     [`ShutDown`](crate::ErrorKind::ShutDown) at once, and is unhealthy. (`LIF-11`)
/// 13. **A lost connection comes back** by itself with all its consumers, and [`health`](Self::health) tells the truth
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

    /// Returns what this instance gives. After the start it may be less than before: what the live broker allows.
    fn capabilities(&self) -> Capabilities;

    /// Connects, and starts to consume all that is registered.
    ///
    /// Does nothing if it is started.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Unauthenticated`](crate::ErrorKind::Unauthenticated) or
    /// [`Tls`](crate::ErrorKind::Tls) if it cannot connect; [`Unsupported`](crate::ErrorKind::Unsupported) if the
    /// broker gives less than a registration needs; [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown. A
    /// start that failed can be tried again.
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
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the broker did not take it over in time: it may arrive all
    /// the same. [`Unroutable`](crate::ErrorKind::Unroutable),
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage),
    /// [`PayloadTooLarge`](crate::ErrorKind::PayloadTooLarge),
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig),
    /// [`NotStarted`](crate::ErrorKind::NotStarted) and [`ShutDown`](crate::ErrorKind::ShutDown): it was not sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the message may have been sent.
    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>>;

    /// Sends a command to one instance of its receiver, and returns the success response.
    ///
    /// # Errors
    ///
    /// [`InvokeError::Handled`] and [`InvokeError::Unhandled`] are the service's answer. [`InvokeError::Bridge`]:
    /// [`NoHandler`](crate::ErrorKind::NoHandler) if nobody serves the command,
    /// [`Timeout`](crate::ErrorKind::Timeout) at the time limit,
    /// [`Backpressure`](crate::ErrorKind::Backpressure) if too many calls are pending, and those of
    /// [`emit_message`](Self::emit_message).
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
    /// [`Unsupported`](crate::ErrorKind::Unsupported),
    /// [`AlreadyRegistered`](crate::ErrorKind::AlreadyRegistered),
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), [`InvalidMessage`](crate::ErrorKind::InvalidMessage)
    /// (names), [`ShutDown`](crate::ErrorKind::ShutDown), or the broker's refusal.
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

    /// Returns how the bridge is now.
    fn health(&self) -> Health;

    /// Returns the events of the bridge from now on.
    fn events(&self) -> BridgeEvents;

    /// Returns what the bridge has counted.
    fn stats(&self) -> Stats;

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

    /// Returns what the options became. Before the start, that is what the adapter expects; what was not asked for may
    /// become less if the live broker gives less.
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
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the adapter cannot,
    /// [`ShutDown`](crate::ErrorKind::ShutDown) during a shutdown, which stops the delivery itself.
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

/// Implements [`EventBridge`] for a type by passing each call on to what it wraps.
///
/// `$inner` is an expression of the wrapped bridge; name the receiver so that it can be used in there.
///
/// ```
/// use std::sync::Arc;
///
/// #[derive(Debug)]
/// struct Wrapper {
///     inner: Arc<dyn purista_core::EventBridge>,
/// }
///
/// purista_core::forward_event_bridge!(impl EventBridge for Wrapper { |bridge| bridge.inner });
/// ```
#[macro_export]
macro_rules! forward_event_bridge {
    (impl$([$($generics:tt)*])? EventBridge for $type:ty { |$bridge:ident| $inner:expr }) => {
        #[$crate::adapter::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl$(<$($generics)*>)? $crate::EventBridge for $type {
            fn name(&self) -> &'static str {
                let $bridge = self;
                $inner.name()
            }

            fn instance_id(&self) -> &$crate::Id {
                let $bridge = self;
                $inner.instance_id()
            }

            fn capabilities(&self) -> $crate::Capabilities {
                let $bridge = self;
                $inner.capabilities()
            }

            async fn start(&self) -> $crate::Result<()> {
                let $bridge = self;
                $inner.start().await
            }

            // These two pass on the future of the inner bridge: as an `async fn`, each layer would box one more.
            fn emit_message<'life0, 'life1, 'async_trait>(
                &'life0 self,
                draft: $crate::EventDraft,
                options: &'life1 $crate::EmitOptions,
            ) -> ::std::pin::Pin<
                Box<dyn Future<Output = $crate::Result<::std::sync::Arc<$crate::Message>>> + Send + 'async_trait>,
            >
            where
                Self: 'async_trait,
                'life0: 'async_trait,
                'life1: 'async_trait,
            {
                let $bridge = self;
                $inner.emit_message(draft, options)
            }

            fn invoke_command<'life0, 'life1, 'async_trait>(
                &'life0 self,
                draft: $crate::CommandDraft,
                options: &'life1 $crate::InvokeOptions,
            ) -> ::std::pin::Pin<
                Box<
                    dyn Future<Output = $crate::Result<::std::sync::Arc<$crate::Message>, $crate::InvokeError>>
                        + Send
                        + 'async_trait,
                >,
            >
            where
                Self: 'async_trait,
                'life0: 'async_trait,
                'life1: 'async_trait,
            {
                let $bridge = self;
                $inner.invoke_command(draft, options)
            }

            async fn register_command(
                &self,
                command: $crate::Command,
                handler: ::std::sync::Arc<dyn $crate::CommandHandler>,
            ) -> $crate::Result<$crate::Registration> {
                let $bridge = self;
                $inner.register_command(command, handler).await
            }

            async fn register_subscription(
                &self,
                subscription: $crate::Subscription,
                handler: ::std::sync::Arc<dyn $crate::SubscriptionHandler>,
            ) -> $crate::Result<$crate::Registration> {
                let $bridge = self;
                $inner.register_subscription(subscription, handler).await
            }

            fn health(&self) -> $crate::Health {
                let $bridge = self;
                $inner.health()
            }

            fn events(&self) -> $crate::BridgeEvents {
                let $bridge = self;
                $inner.events()
            }

            fn stats(&self) -> $crate::Stats {
                let $bridge = self;
                $inner.stats()
            }

            async fn shutdown(&self, grace: ::std::time::Duration) -> $crate::ShutdownReport {
                let $bridge = self;
                $inner.shutdown(grace).await
            }
        }
    };
}

forward_event_bridge!(impl[T: EventBridge + ?Sized] EventBridge for Arc<T> { |bridge| (**bridge) });
forward_event_bridge!(impl[T: EventBridge + ?Sized] EventBridge for Box<T> { |bridge| (**bridge) });
