//! What a caller can ask for. An option that is set is met or refused; one that is not set means the best there is.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    error::Error,
    handler::Context,
    matcher::Filter,
    message::{Name, ServiceAddress},
};

/// The longest time limit of a call or an emit: one day.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How an event is emitted, where a whole draft is: [`Emission`](crate::Emission) sets the same for typed events.
///
/// ```
/// use purista_core::{EmitOptions, ErrorKind, EventBridge as _, EventDraft, ServiceAddress};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.start().await?;
/// let draft = EventDraft::event(ServiceAddress::client(), "happened").with_receiver(("Mail", "1", "send"));
/// let options = EmitOptions::default().with_must_route(true);
/// let nobody = bridge.emit_message(draft, &options).await.unwrap_err();
/// assert_eq!(nobody.kind(), ErrorKind::Unroutable);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmitOptions {
    /// How long to wait for the broker to take responsibility; 5 s by default.
    pub timeout: Duration,
    /// Whether to fail with [`Unroutable`](crate::ErrorKind::Unroutable) when nobody gets the event; not by default.
    pub must_route: bool,
}

impl Default for EmitOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), must_route: false }
    }
}

impl EmitOptions {
    /// Sets how long to wait for the broker to take responsibility, up to [`MAX_TIMEOUT`].
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Fails with [`Unroutable`](crate::ErrorKind::Unroutable) when nobody gets the event.
    #[must_use]
    pub const fn with_must_route(mut self, must_route: bool) -> Self {
        self.must_route = must_route;
        self
    }
}

/// How a command is invoked, where a whole draft is: [`Call`](crate::Call) sets the same for typed calls.
///
/// ```
/// use purista_core::{CommandDraft, ErrorKind, EventBridge as _, InvokeOptions, ServiceAddress};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.start().await?;
/// let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "signUp"));
/// let options = InvokeOptions::default().with_timeout(Duration::from_secs(1));
/// let error = bridge.invoke_command(draft, &options).await.unwrap_err();
/// assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvokeOptions {
    /// How long to wait for the answer; 30 s by default. A command that starts later than this is not executed.
    pub timeout: Duration,
    /// When the caller stops waiting on whose behalf a handler makes this call. The call ends then at the latest, and is
    /// not sent if it is then already. Not set by default; [`Context::call`] and [`Context::invoke`] set it.
    pub caller_deadline: Option<Instant>,
}

impl Default for InvokeOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), caller_deadline: None }
    }
}

impl InvokeOptions {
    /// Sets how long to wait for the answer, up to [`MAX_TIMEOUT`].
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ends the call when the caller of the command stops waiting that this context belongs to, as the calls of the
    /// context itself do. For whole messages, which go through [`Context::bridge`].
    #[must_use]
    pub const fn within(mut self, context: &Context) -> Self {
        self.caller_deadline = context.deadline;
        self
    }
}

/// Refuses a time limit of zero or beyond [`MAX_TIMEOUT`].
pub(crate) fn check_timeout(timeout: Duration) -> Result<Duration, Error> {
    if timeout.is_zero() || timeout > MAX_TIMEOUT {
        return Err(Error::invalid_config(format!(
            "a time limit of {timeout:?} is not within 1 ns and {MAX_TIMEOUT:?}"
        )));
    }
    Ok(timeout)
}

/// When a message is acknowledged to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acknowledge {
    /// On receipt, before the handler runs: at most once.
    OnReceive,
    /// After the handler finished: at least once.
    AfterHandler,
}

/// Who gets a message of a subscriber that runs in several instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// One of the instances.
    Shared,
    /// Each instance.
    Broadcast,
}

/// How often and when a failing handler is tried again.
///
/// The delay before the next attempt starts at `initial_delay` and doubles with each attempt up to `max_delay`.
///
/// A message that waits for its next attempt keeps no handler from others, however many wait: up to 16,384 messages of
/// each subscription in each bridge, and up to 64 MiB of them. Beyond that, each further one counts as a running handler
/// ([`max_concurrency`](SubscriptionOptions::max_concurrency)) while it waits, so that fewer others are taken from the
/// broker: when everything fails, the queue waits at the broker and uses no attempts up.
///
/// ```
/// use purista_core::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default().with_max_attempts(10).with_max_delay(Duration::from_secs(3));
/// let delays: Vec<_> = (1..=4).map(|attempt| policy.delay_after(attempt).as_millis()).collect();
/// assert_eq!(delays, [500, 1_000, 2_000, 3_000]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often the handler runs for one message, the first time included; 5 by default, at least 1.
    pub max_attempts: u32,
    /// The delay after the first attempt; 500 ms by default.
    pub initial_delay: Duration,
    /// The longest delay; 30 s by default.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// Never tries again.
    pub const NEVER: Self =
        Self { max_attempts: 1, initial_delay: Duration::ZERO, max_delay: Duration::ZERO };

    /// Sets how often the handler runs for one message, the first time included.
    #[must_use]
    pub const fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the delay after the first attempt.
    #[must_use]
    pub const fn with_initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay = delay;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub const fn with_max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Returns the delay after attempt number `attempt`, which counts from 1.
    #[must_use]
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.initial_delay.saturating_mul(1 << doublings).min(self.max_delay.max(self.initial_delay))
    }
}

macro_rules! consumer_setters {
    () => {
        /// Limits how many handlers run at once; 1 keeps the order of messages that are not tried again.
        #[must_use]
        pub const fn with_max_concurrency(mut self, handlers: usize) -> Self {
            self.max_concurrency = Some(handlers);
            self
        }

        /// Asks that messages wait at the broker while the service is away, or that they do not.
        #[must_use]
        pub const fn with_durable(mut self, durable: bool) -> Self {
            self.durable = Some(durable);
            self
        }

        /// Asks for the time of the acknowledgement.
        #[must_use]
        pub const fn with_acknowledge(mut self, acknowledge: Acknowledge) -> Self {
            self.acknowledge = Some(acknowledge);
            self
        }

        /// Stops a handler that runs longer, and counts that as its failure; unlimited by default.
        #[must_use]
        pub const fn with_handler_timeout(mut self, timeout: Duration) -> Self {
            self.handler_timeout = Some(timeout);
            self
        }
    };
}

/// How a command is served.
///
/// ```
/// use purista_core::{CommandOptions, Context, EventBridge as _, EventBridgeExt as _, InvokeError, Service};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = CommandOptions::default().with_max_concurrency(4).with_handler_timeout(Duration::from_secs(2));
/// let reports = Service::new("Report", "1").command_with("make", options, |_: Context, pages: u64| async move {
///     tokio::time::sleep(Duration::from_secs(pages)).await;
///     Ok(pages)
/// });
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// bridge.serve([reports]).await?;
/// assert_eq!(bridge.invoke::<u64>(("Report", "1", "make"), &1).await?, 1);
/// let too_long = bridge.invoke::<u64>(("Report", "1", "make"), &60).await;
/// assert!(matches!(too_long, Err(InvokeError::Unhandled(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOptions {
    /// How many handlers run at once; [`DEFAULT_CONCURRENCY`](crate::DEFAULT_CONCURRENCY) by default.
    pub max_concurrency: Option<usize>,
    /// Whether commands wait at the broker while the service is away; not by default.
    pub durable: Option<bool>,
    /// When a command is acknowledged; on receipt by default, as its caller waits and can try again.
    pub acknowledge: Option<Acknowledge>,
    /// How long a handler may run; unlimited by default.
    pub handler_timeout: Option<Duration>,
    /// The event that a success response announces; none by default.
    pub success_event: Option<Name>,
}

impl CommandOptions {
    consumer_setters!();

    /// Makes each success response announce an event too.
    #[must_use]
    pub fn with_success_event(mut self, event_name: impl Into<Name>) -> Self {
        self.success_event = Some(event_name.into());
        self
    }
}

/// How a subscription is served.
///
/// An option that is set is met or refused; one that is not set means the best there is, and
/// [`Registration::granted`](crate::Registration::granted) tells what that is.
///
/// ```
/// use purista_core::{ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, RetryPolicy, Service, Sharing};
/// use purista_core::{Context, SubscriptionOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = |options: SubscriptionOptions| {
///     let nothing = |_: Context, _: u64| async { Ok(()) };
///     Service::new("Mail", "1").subscription_with("welcome", Filter::event("userRegistered"), options, nothing)
/// };
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// let options = SubscriptionOptions::default().with_sharing(Sharing::Broadcast).with_retry(RetryPolicy::NEVER);
/// let registrations = bridge.serve([service(options)]).await?;
/// assert!(!registrations[0].granted().durable);
/// registrations[0].unregister().await?;
///
/// // Nothing outlives the process here.
/// let refused = bridge.serve([service(SubscriptionOptions::default().with_durable(true))]).await.unwrap_err();
/// assert!(matches!(refused.kind(), ErrorKind::Unsupported(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionOptions {
    /// How many handlers run at once; [`DEFAULT_CONCURRENCY`](crate::DEFAULT_CONCURRENCY) by default.
    pub max_concurrency: Option<usize>,
    /// Whether messages wait at the broker while the service is away; by default if the adapter can and the instances
    /// share. A durable broadcast needs an instance id that is configured, as its messages wait for that instance.
    pub durable: Option<bool>,
    /// When a message is acknowledged; after the handler by default if the adapter can.
    pub acknowledge: Option<Acknowledge>,
    /// How long a handler may run; unlimited by default.
    pub handler_timeout: Option<Duration>,
    /// Who gets a message when there are several instances; one of them by default if the adapter can.
    pub sharing: Option<Sharing>,
    /// How a failing handler is tried again; [`RetryPolicy::default`] by default if the adapter can.
    pub retry: Option<RetryPolicy>,
    /// Whether what fails at every attempt is kept as a dead letter; by default if the adapter can.
    pub dead_letter: Option<bool>,
}

impl SubscriptionOptions {
    consumer_setters!();

    /// Asks who gets a message when there are several instances.
    #[must_use]
    pub const fn with_sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = Some(sharing);
        self
    }

    /// Asks for attempts and delays.
    #[must_use]
    pub const fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Asks to keep what fails at every attempt as a dead letter, or to drop it.
    #[must_use]
    pub const fn with_dead_letter(mut self, dead_letter: bool) -> Self {
        self.dead_letter = Some(dead_letter);
        self
    }
}

/// A command to be registered: its address and how it is served.
///
/// ```
/// use purista_core::{Command, CommandOptions};
///
/// let sign_up = Command::new(("User", "1", "signUp"))
///     .with_options(CommandOptions::default().with_success_event("userRegistered"));
/// assert_eq!(sign_up.options.success_event.as_deref(), Some("userRegistered"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// Where callers reach it.
    pub address: ServiceAddress,
    /// How it is served.
    pub options: CommandOptions,
}

impl Command {
    /// Creates a command with default options.
    #[must_use]
    pub fn new(address: impl Into<ServiceAddress>) -> Self {
        Self { address: address.into(), options: CommandOptions::default() }
    }

    /// Sets how it is served.
    #[must_use]
    pub fn with_options(mut self, options: CommandOptions) -> Self {
        self.options = options;
        self
    }
}

/// A subscription to be registered: who subscribes, to what, and how it is served.
///
/// ```
/// use purista_core::{Filter, Subscription, SubscriptionOptions};
///
/// let audit = Subscription::new(("Audit", "1", "all"), Filter::any().with_tenant_id("acme"))
///     .with_options(SubscriptionOptions::default().with_max_concurrency(1));
/// assert_eq!(audit.subscriber.service_target, "all");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// Who subscribes. Instances with the same subscriber share messages; different subscribers never do.
    pub subscriber: ServiceAddress,
    /// Which messages it gets.
    pub filter: Filter,
    /// How it is served.
    pub options: SubscriptionOptions,
}

impl Subscription {
    /// Creates a subscription with default options.
    #[must_use]
    pub fn new(subscriber: impl Into<ServiceAddress>, filter: Filter) -> Self {
        Self { subscriber: subscriber.into(), filter, options: SubscriptionOptions::default() }
    }

    /// Sets how it is served.
    #[must_use]
    pub fn with_options(mut self, options: SubscriptionOptions) -> Self {
        self.options = options;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = RetryPolicy::default()
            .with_initial_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_millis(350));
        let delays = [1, 2, 3, 4, 500, u32::MAX].map(|attempt| policy.delay_after(attempt).as_millis());
        assert_eq!(delays, [100, 200, 350, 350, 350, 350]);
    }
}
