use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    EngineConfig, Gate, Publish, Transport,
    link::Shared,
    registered::{Endpoint, Key, Registered},
    spans::Sending,
    time_limit::CallLimit,
};
use crate::{
    bridge::{EventBridge, Registration, ShutdownReport},
    capability::{Capabilities, Capability},
    dead_letters::DeadLetters,
    durations::Operation,
    error::{Error, ErrorKind, HandledError, InvokeError, Result},
    events::BridgeEvents,
    grant::demand_for,
    handler::{CommandHandler, SubscriptionHandler},
    health::{BridgeState, Health},
    message::{Body, CommandDraft, EventDraft, Id, Message},
    options::{Command, EmitOptions, InvokeOptions, Subscription, check_timeout},
    stats::Stats,
    status::StatusCode,
};

/// An [`EventBridge`] over a [`Transport`]: all that does not depend on the broker.
///
/// Adapters wrap it with [`forward_event_bridge!`](crate::forward_event_bridge).
#[derive(Debug)]
pub struct Engine<T: Transport> {
    pub(super) transport: T,
    pub(super) shared: Arc<Shared>,
    /// Cancelled when the grace period of the shutdown is over. In an `Arc`, as to clone the token takes a lock that all
    /// handlers would share.
    pub(super) cancellation: Arc<CancellationToken>,
    pub(super) config: EngineConfig,
    pub(super) itself: Weak<Self>,
    pub(super) registrations: Mutex<HashMap<Key, Arc<Registered<T>>>>,
    /// Registrations that ended and still have something in hand.
    pub(super) leaving: Mutex<Vec<Arc<Registered<T>>>>,
    /// Held by what changes the set of consumers: one change at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Cancelled when the shutdown begins.
    pub(super) closing: CancellationToken,
    pub(super) report: watch::Sender<Option<ShutdownReport>>,
    pub(super) shutdown_begun: OnceLock<()>,
    /// The emits that wait for the broker.
    emits: Arc<Gate>,
    /// The answers to commands that are no message.
    refusals: Arc<Gate>,
}

/// How many answers to commands that are no message are under way at once; to more, nobody answers.
const MAX_REFUSALS: usize = 1_024;

impl<T: Transport> Engine<T> {
    /// Creates an engine that is not started.
    ///
    /// # Errors
    ///
    /// As [`EngineConfig::validate`].
    pub fn new(transport: T, config: EngineConfig) -> Result<Arc<Self>> {
        config.validate()?;
        let shared = Shared::new(
            config.instance_id.clone().unwrap_or_else(Id::random),
            config.max_pending_calls,
            T::NAME,
        );
        Ok(Arc::new_cyclic(|itself| Self {
            transport,
            shared: Arc::new(shared),
            cancellation: Arc::default(),
            config,
            itself: Weak::clone(itself),
            registrations: Mutex::default(),
            leaving: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
            report: watch::Sender::new(None),
            shutdown_begun: OnceLock::new(),
            emits: Gate::new(),
            refusals: Gate::new(),
        }))
    }

    /// Returns the transport.
    #[must_use]
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    pub(super) fn error(kind: ErrorKind, operation: &'static str) -> Error {
        Error::new(kind, operation).with_bridge(T::NAME)
    }

    pub(super) fn check_usable(&self, operation: &'static str) -> Result<()> {
        match self.shared.state() {
            BridgeState::Started | BridgeState::Draining => Ok(()),
            // Handlers run as soon as their consumer is there.
            BridgeState::Starting if self.shared.is_connected() => Ok(()),
            BridgeState::Created | BridgeState::Starting => {
                Err(Self::error(ErrorKind::NotStarted, operation))
            }
            BridgeState::ShutDown => Err(self.shared.explain(Self::error(ErrorKind::ShutDown, operation))),
        }
    }

    /// Answers a command that cannot be executed, as it is no message.
    pub(super) fn refuse_unread(self: &Arc<Self>, command: &Message, reply_to: T::ReplyTo) {
        let Some(sending) = self.refusals.enter() else { return };
        if self.refusals.count() > MAX_REFUSALS {
            return;
        }
        let refusal = Arc::new(command.unhandled_error(&self.shared.instance_id, StatusCode::BAD_REQUEST));
        let engine = Arc::clone(self);
        self.shared.home.spawn(async move {
            let _sending = sending;
            let sent = engine.transport.respond(refusal, reply_to);
            if let Err(error) = engine.within_operation_timeout("respond", sent).await {
                tracing::debug!(bridge = T::NAME, %error, "a refusal could not be sent");
            }
        });
    }

    async fn send_event(
        &self,
        draft: EventDraft,
        options: &EmitOptions,
        sending: &Sending<'_>,
    ) -> Result<Arc<Message>> {
        self.check_usable("emit")?;
        demand_for("emit", options.must_route, Capability::MustRoute, &self.transport.capabilities())
            .map_err(|error| error.with_bridge(T::NAME))?;
        let deadline = Instant::now() + check_timeout(options.timeout)?;
        let message = Arc::new(draft.sent_in(&sending.span).stamp(&self.shared.instance_id));
        sending.is(&message);
        self.check_limits(&message, "emit")?;
        let _waiting = self.emits.enter();
        if self.emits.count() > self.config.max_pending_emits {
            return Err(Self::error(ErrorKind::Backpressure, "emit").with_context("too many emits wait"));
        }
        let publish = Publish::new(deadline, options.must_route);
        tokio::select! {
            biased;
            published = self.transport.publish(Arc::clone(&message), publish) => published?,
            // An adapter that has disconnected may leave it waiting.
            () = async { self.shared.home.over().await } => {
                return Err(self.shared.explain(Self::error(ErrorKind::ShutDown, "emit")));
            }
            () = async { self.shared.home.sleep_until(deadline).await } => {
                return Err(Self::error(ErrorKind::Timeout, "emit"));
            }
        }
        self.shared.counters.emitted.increment();
        Ok(message)
    }

    async fn call(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
        sending: &Sending<'_>,
    ) -> Result<Arc<Message>, InvokeError> {
        self.check_usable("invoke")?;
        let limit = CallLimit::of(options)?;
        let command = Arc::new(draft.sent_in(&sending.span).stamp(&self.shared.instance_id));
        sending.is(&command);
        self.check_limits(&command, "invoke")?;
        let response = self.send_command(&command, limit).await?;
        match response.body {
            Body::CommandErrorResponse { handled, .. } => Err(service_error(&response, handled)),
            _ => Ok(response),
        }
    }

    async fn send_command(&self, command: &Arc<Message>, limit: CallLimit) -> Result<Arc<Message>> {
        let deadline = limit.until;
        let mut call = self.shared.calls.begin(command).map_err(|error| error.with_bridge(T::NAME))?;
        self.shared.counters.invoked.increment();
        if limit.is_over() {
            self.shared.counters.timed_out.increment();
            return Err(limit.explain(Self::error(ErrorKind::Timeout, "invoke")));
        }
        let refused = async {
            match self.transport.request(Arc::clone(command), deadline).await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            }
        };
        let answer = tokio::select! {
            biased;
            refused = refused => refused,
            // An answer, or the end of the bridge, may come before the broker has confirmed the command.
            answer = call.answer() => answer,
            // The timer is made in there, when there is something to wait for.
            () = async { self.shared.home.sleep_until(deadline).await } => {
                self.shared.counters.timed_out.increment();
                let refused = call.was_refused();
                let kind = if refused { ErrorKind::NoHandler } else { ErrorKind::Timeout };
                Err(Self::error(kind, "invoke"))
            }
        };
        if answer.is_ok() {
            self.shared.counters.answered.increment();
        }
        answer.map_err(|error| limit.explain(self.shared.explain(error)))
    }
}

#[async_trait]
impl<T: Transport> EventBridge for Engine<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn instance_id(&self) -> &Id {
        &self.shared.instance_id
    }

    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    async fn start(&self) -> Result<()> {
        self.start_once().await
    }

    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>> {
        let sending = self.sending(Operation::Emit, &draft.event_name());
        let emitted = self.send_event(draft, options, &sending).await;
        sending.ended(emitted.as_ref().err().map(|error| error.kind().as_str()));
        emitted
    }
    async fn invoke_command(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
    ) -> Result<Arc<Message>, InvokeError> {
        let sending = self.sending(Operation::Invoke, draft.address());
        let answered = self.call(draft, options, &sending).await;
        sending.ended(answered.as_ref().err().map(InvokeError::as_str));
        answered
    }

    async fn register_command(
        &self,
        command: Command,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Registration> {
        self.register(Endpoint::Command(command, handler)).await
    }

    async fn register_subscription(
        &self,
        subscription: Subscription,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> Result<Registration> {
        self.register(Endpoint::Subscription(Box::new(subscription), handler)).await
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn events(&self) -> BridgeEvents {
        self.shared.subscribe()
    }

    fn stats(&self) -> Stats {
        let mut registered = self.registered();
        registered.extend(self.leaving.lock().iter().cloned());
        let in_hand = registered.iter().map(|registered| registered.in_hand.count()).sum();
        self.shared.counters.snapshot(self.shared.calls.count(), in_hand)
    }

    fn dead_letters(&self) -> Result<Arc<dyn DeadLetters>> {
        self.inspection()
    }

    async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        self.shutdown_once(grace).await
    }
}

impl<T: Transport> Drop for Engine<T> {
    fn drop(&mut self) {
        if matches!(self.shared.state(), BridgeState::Starting | BridgeState::Started) {
            tracing::warn!(bridge = T::NAME, "dropped without shutdown: what was in hand may be lost");
        }
        // What waits for the end of the runtime would keep what it belongs to for as long.
        self.shared.home.leave();
        // Registrations outlive the bridge in the hands of users; what they consume with must not.
        for registered in self.registered() {
            registered.halt();
            drop(registered.take_consumer());
        }
    }
}

/// The error that a service answered with.
fn service_error(response: &Message, handled: bool) -> InvokeError {
    match response.error_payload() {
        Ok(error) if handled => {
            InvokeError::Handled(HandledError::new(error.status, error.message).with_payload(error.data))
        }
        Ok(error) => InvokeError::Unhandled(error.status),
        Err(error) => InvokeError::Bridge(error),
    }
}
