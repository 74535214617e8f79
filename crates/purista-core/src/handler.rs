//! What runs when a message arrives.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::EventBridge,
    call::Call,
    emission::Emission,
    error::{Error, HandlerError, InvokeError},
    message::{CommandDraft, EventDraft, Message, Misfit, Name, Payload, Receiver, ServiceAddress, fit},
    options::InvokeOptions,
};

/// Serves a command.
///
/// Usually a closure or `async fn` given to [`Service::command`](crate::Service::command); this trait is for whole
/// messages.
#[async_trait]
pub trait CommandHandler: Send + Sync + 'static {
    /// Executes the command and returns its result.
    ///
    /// Runs on a task of its own; a panic is caught and counts as a failure. It may compute or block as long as the
    /// runtime has another thread: nobody else waits for it. If the bridge shuts down and its grace period has passed,
    /// [`Context::cancelled`] completes, and shortly after the future is dropped.
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError>;
}

/// Serves a subscription.
///
/// Usually a closure or `async fn` given to [`Service::subscription`](crate::Service::subscription); this trait is
/// for whole messages.
#[async_trait]
pub trait SubscriptionHandler: Send + Sync + 'static {
    /// Handles a message. A failure is retried as the subscription's
    /// [`RetryPolicy`](crate::RetryPolicy) says; then the message becomes a dead letter.
    ///
    /// Runs like [`CommandHandler::handle`]. Messages may be redelivered after a crash: handlers should recognise by
    /// [`Message::id`](crate::Message) what they have done.
    async fn handle(&self, context: Context) -> Result<(), HandlerError>;
}

/// What a handler knows and can do while it handles one message.
///
/// Messages it sends come from the handler's address, and carry on principal, tenant, trace id and trace context of
/// the message it handles.
///
/// Commands it calls on behalf of a command's caller wait no longer than that caller does: a call ends when the caller
/// stops waiting, at the latest, and one that begins later is not sent. Both fail with
/// [`Timeout`](crate::ErrorKind::Timeout), and the error names the caller as the reason. The limit goes on with each call,
/// however deep. Callers that tell no time limit, as some bridges of the TypeScript original, set none, nor does anybody
/// who emits a message that a subscription handles. [`detached`](Self::detached) lets calls outlive the caller.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) message: Arc<Message>,
    pub(crate) address: Arc<ServiceAddress>,
    pub(crate) bridge: Arc<dyn EventBridge>,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancellation: Arc<CancellationToken>,
}

impl Context {
    /// Returns the message.
    #[must_use]
    pub const fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// Returns the address of the command or subscriber that handles it.
    #[must_use]
    pub fn address(&self) -> &ServiceAddress {
        &self.address
    }

    /// Returns the bridge. What is sent through it belongs to no caller: it carries on nothing, and waits as long as its
    /// own options say. [`InvokeOptions::within`] and [`CommandDraft::caused_by`] change that.
    #[must_use]
    pub const fn bridge(&self) -> &Arc<dyn EventBridge> {
        &self.bridge
    }

    /// Returns how often a handler has run for this message, this time included.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns a copy for work that goes on when the caller has given up. It knows no caller: what it calls waits as
    /// long as its own time limit says, and [`cancelled`](Self::cancelled) waits for the end of the bridge's grace period
    /// alone.
    ///
    /// ```
    /// # use purista_core::{Context, EventBridge as _, EventBridgeExt as _, HandledError, Service, StatusCode};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bank = Service::new("Bank", "1").command("charge", |_: Context, cents: u32| async move {
    /// #     tokio::time::sleep(Duration::from_secs(5)).await;
    /// #     Ok(cents)
    /// # });
    /// let shop = Service::new("Shop", "1").command("buy", |context: Context, cents: u32| async move {
    ///     // Who has begun to charge wants to know the outcome, even if the customer has left.
    ///     let charged: u32 = context.detached().invoke(("Bank", "1", "charge"), &cents).await?;
    ///     context.emit("charged", &charged).await?;
    ///     Ok(charged)
    /// });
    /// # let bridge = purista_default::DefaultEventBridge::builder().build()?;
    /// # bridge.serve([bank, shop]).await?;
    /// # let call = bridge.call(("Shop", "1", "buy")).timeout(Duration::from_secs(1));
    /// # call.invoke::<u32>(&7).await.unwrap_err();
    /// # tokio::time::sleep(Duration::from_secs(5)).await;
    /// # assert_eq!(bridge.stats().timed_out, 1, "the customer's call alone");
    /// # assert_eq!(bridge.stats().emitted, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { deadline: None, ..self.clone() }
    }

    /// Returns how long the caller of a command still waits; `None` where nobody waits, and where the caller does not
    /// tell. It counts from the receipt, as the clocks of two machines are not compared: the way of the command is not in
    /// it, nor what it waited at a broker that does not count that.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the handler should give up: the bridge's grace period is over, or a command's caller has stopped
    /// waiting.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Completes when the handler should give up: the bridge's grace period is over, or a command's caller has
    /// stopped waiting.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        match self.deadline {
            Some(deadline) => {
                let _either = tokio::time::timeout_at(deadline, self.cancellation.cancelled()).await;
            }
            None => self.cancellation.cancelled().await,
        }
    }

    /// Decodes the second input of a command.
    ///
    /// Callers that have none leave it out or send an empty object, as those of the TypeScript original do. Both are the
    /// same here: `None` for an `Option`, and the defaults of a type all of whose fields have one.
    /// [`Message::parameter`] tells them apart.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](crate::ErrorKind::InvalidMessage) if there is none that fits the type.
    pub fn parameter<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self.message.parameter() {
            Some(parameter) if !parameter.is_empty_object() => parameter.deserialize(),
            _ => decode_or_null(None).or_else(|_| Payload::empty_object().deserialize()),
        }
    }

    /// Begins a call of a command, with a parameter, a time limit or a tenant of its own.
    ///
    /// It ends when the caller of this handler stops waiting, at the latest; see [`detached`](Self::detached).
    pub fn call(&self, receiver: impl Into<Receiver>) -> Call<'_, dyn EventBridge> {
        let draft = CommandDraft::new(self.address(), receiver).caused_by(&self.message);
        Call::new(&*self.bridge, draft, InvokeOptions::default().within(self))
    }

    /// Invokes a command and decodes its result. The time limit is 30 s, or what is left to the caller of this handler if
    /// that is less; see [`detached`](Self::detached).
    ///
    /// # Errors
    ///
    /// As [`Call::invoke`].
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::invoke_command`].
    pub async fn invoke<O: DeserializeOwned>(
        &self,
        receiver: impl Into<Receiver> + Send,
        input: &(impl Serialize + Sync + ?Sized),
    ) -> Result<O, InvokeError> {
        self.call(receiver).invoke(input).await
    }

    /// Begins to emit an event, with a time limit or a tenant of its own.
    pub fn event(&self, event_name: impl Into<Name>) -> Emission<'_, dyn EventBridge> {
        let draft = EventDraft::event(self.address(), event_name).caused_by(&self.message);
        Emission::new(&*self.bridge, draft)
    }

    /// Emits an event and waits up to 5 s for the broker to take it over.
    ///
    /// # Errors
    ///
    /// As [`Emission::emit`].
    ///
    /// # Cancel safety
    ///
    /// As [`EventBridge::emit_message`].
    pub async fn emit(
        &self,
        event_name: impl Into<Name> + Send,
        content: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Arc<Message>, Error> {
        self.event(event_name).emit(content).await
    }
}

/// Decodes a payload; an absent one counts as `null`.
pub(crate) fn decode_or_null<T: DeserializeOwned>(payload: Option<&Payload>) -> Result<T, Error> {
    match payload {
        Some(payload) => payload.deserialize(),
        None => serde_json::from_str("null").map_err(|_| Error::invalid_message("a payload is needed")),
    }
}

/// Decodes a payload, or tells where it does not fit; an absent one counts as `null`.
pub(crate) fn fit_or_null<T: DeserializeOwned>(payload: Option<&Payload>) -> Result<T, Misfit> {
    fit(payload.map_or("null", Payload::as_str))
}
