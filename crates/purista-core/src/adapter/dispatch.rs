//! From a delivery to its acknowledgement: one straight line for commands, one for subscriptions.

use std::{
    any::Any,
    cell::Cell,
    convert::Infallible,
    fmt::Display,
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Waker},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::{Instrument as _, Span};

use super::{
    Acknowledgement, Backoff, DeadLetter, Delivery, Engine, Pass, Slot, Transport,
    limits::check_message,
    registered::{Endpoint, Registered},
};
use crate::{
    bridge::EventBridge,
    error::{Error, HandlerError, Result},
    handler::Context,
    message::{Message, Name, Payload, now},
    options::Acknowledge,
    stats::Counters,
    status::StatusCode,
};

/// How long a handler may react to its cancellation before it is dropped.
const CANCELLATION_PATIENCE: Duration = Duration::from_millis(60);

/// How deep commands may call each other on one stack before they get tasks of their own.
const MAX_NESTING: u32 = 8;

/// How one attempt of a handler ended.
enum Outcome<R> {
    Succeeded(R),
    Failed(HandlerError),
    /// The bridge's grace period is over; this was no attempt.
    Cancelled,
}

pub(super) fn start<T: Transport>(
    registered: &Arc<Registered<T>>,
    slot: Slot,
    delivery: Delivery<T::ReplyTo>,
) {
    let Some(engine) = registered.engine.upgrade() else { return };
    let work = Work {
        engine,
        registered: Arc::clone(registered),
        starting: Some(slot.starting),
        place: Some(slot.handler),
        _in_hand: registered.in_hand.enter(),
    };
    match &registered.endpoint {
        Endpoint::Command(..) => poll_once_or_spawn(Box::pin(work.command(delivery))),
        Endpoint::Subscription(..) => {
            tokio::spawn(work.subscription(delivery));
        }
    }
}

/// Polls the future here, and gives it a task of its own if it is not ready at once.
fn poll_once_or_spawn(mut future: Pin<Box<dyn Future<Output = ()> + Send>>) {
    thread_local! {
        static NESTING: Cell<u32> = const { Cell::new(0) };
    }
    let nesting = NESTING.get();
    let mut ready = false;
    if nesting < MAX_NESTING {
        NESTING.set(nesting + 1);
        // Nothing unwinds past the counter: the panics of handlers are caught in there.
        ready = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_ready();
        NESTING.set(nesting);
    }
    if !ready {
        tokio::spawn(future);
    }
}

/// The handling of one delivery.
struct Work<T: Transport> {
    engine: Arc<Engine<T>>,
    registered: Arc<Registered<T>>,
    /// Held until the handler starts.
    starting: Option<Pass>,
    /// The place of a running handler; given up while the message waits for its next attempt.
    place: Option<OwnedSemaphorePermit>,
    /// `None` if the registration stopped meanwhile, in which case no handler starts.
    _in_hand: Option<Pass>,
}

type Acknowledging = Option<Box<dyn Acknowledgement>>;

impl<T: Transport> Work<T> {
    async fn command(mut self, mut delivery: Delivery<T::ReplyTo>) {
        let starting = self.starting.take();
        let Endpoint::Command(definition, handler) = &self.registered.endpoint else { return };
        let message = Arc::clone(&delivery.message);
        let counters = &self.engine.shared.counters;

        if delivery.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            counters.expired.increment();
            return self.accept(delivery.acknowledgement).await;
        }
        let span = self.span(&message);
        let outcome = if !self.is_addressed_by(&message) {
            counters.refused.increment();
            return self.refuse(&message, delivery).await;
        } else if self.is_beyond_limits(&message).is_some() {
            Err(StatusCode::BAD_REQUEST)
        } else if self.registered.stopping.is_cancelled() {
            Ok(Outcome::Cancelled)
        } else {
            if !self.accept_on_receive(&mut delivery).await {
                return;
            }
            let context = self.context(&delivery, delivery.attempt);
            // Called in there, as it may panic before there is a future.
            let acknowledgement = delivery.acknowledgement.as_deref();
            let handled = async { handler.handle(context).await };
            let outcome = self.attempt(&span, starting, acknowledgement, handled).await;
            if !matches!(outcome, Outcome::Cancelled) {
                counters.executed.increment();
            }
            Ok(outcome)
        };
        if matches!(outcome, Ok(Outcome::Cancelled)) {
            counters.released.increment();
            if let Some(acknowledgement) = delivery.acknowledgement.take() {
                // Another instance will answer.
                self.acknowledge(acknowledgement.release(0)).await;
                return;
            }
        }
        if let Some(reply_to) = delivery.reply_to.take() {
            let event_name = definition.options.success_event.as_ref();
            let response = span.in_scope(|| self.response(&message, outcome, event_name));
            let sent = pin!(self.engine.transport.respond(response, reply_to));
            if let Err(error) = self.engine.within_operation_timeout("respond", sent).await {
                self.warn(&error, "a response could not be sent");
            }
        }
        self.accept(delivery.acknowledgement.take()).await;
    }

    /// Tells a caller that its command is not the one that is registered.
    async fn refuse(&self, message: &Message, delivery: Delivery<T::ReplyTo>) {
        if let Some(reply_to) = delivery.reply_to {
            let refusal = message.unhandled_error(&self.engine.shared.instance_id, StatusCode::BAD_GATEWAY);
            let sent = self.engine.transport.refuse(Arc::new(refusal), reply_to);
            if let Err(error) = self.engine.within_operation_timeout("respond", Box::pin(sent)).await {
                self.warn(&error, "a refusal could not be sent");
            }
        }
        self.accept(delivery.acknowledgement).await;
    }

    /// Makes the answer; at once shared, as a message by value would be the largest part of the future.
    fn response(
        &self,
        command: &Message,
        outcome: Result<Outcome<Option<Payload>>, StatusCode>,
        event_name: Option<&Name>,
    ) -> Arc<Message> {
        let instance_id = &self.engine.shared.instance_id;
        let response = match outcome {
            Err(refusal) => command.unhandled_error(instance_id, refusal),
            Ok(Outcome::Succeeded(result)) => command.success(instance_id, event_name.cloned(), result),
            Ok(Outcome::Failed(HandlerError::Handled(error))) => command.handled_error(instance_id, &error),
            Ok(Outcome::Failed(HandlerError::Unhandled(_))) => {
                command.unhandled_error(instance_id, StatusCode::INTERNAL_SERVER_ERROR)
            }
            Ok(Outcome::Cancelled) => command.unavailable(instance_id),
        };
        if response.payload_len() > self.engine.transport.capabilities().max_payload() {
            return Arc::new(command.unhandled_error(instance_id, StatusCode::PAYLOAD_TOO_LARGE));
        }
        Arc::new(response)
    }

    fn is_addressed_by(&self, message: &Message) -> bool {
        message.receiver.as_ref().is_some_and(|receiver| {
            receiver.address == *self.registered.address
                && receiver.instance_id.as_ref().is_none_or(|id| *id == self.engine.shared.instance_id)
        })
    }

    /// Checks the names and ids of a message, which a foreign peer may not bound.
    fn is_beyond_limits(&self, message: &Message) -> Option<Error> {
        let error = check_message(message, self.engine.config.max_identity_len).err()?;
        self.counters().malformed.increment();
        self.warn(&error, "a message is beyond the limits");
        Some(error)
    }

    async fn subscription(mut self, mut delivery: Delivery<T::ReplyTo>) {
        let registered = Arc::clone(&self.registered);
        let Endpoint::Subscription(definition, handler) = &registered.endpoint else { return };
        let granted = registered.granted();
        let message = Arc::clone(&delivery.message);
        let first_attempt_at = now();
        let mut starting = self.starting.take();

        self.counters().delivered.increment();
        if !definition.filter.matches(&message) {
            self.counters().filtered.increment();
            return self.accept(delivery.acknowledgement).await;
        }
        if registered.stopping.is_cancelled() {
            return self.release(delivery.acknowledgement, delivery.attempt - 1).await;
        }
        if !self.accept_on_receive(&mut delivery).await {
            return;
        }
        let mut attempt = delivery.attempt;
        let beyond_limits = self.is_beyond_limits(&message);
        let reason = loop {
            if let Some(error) = beyond_limits {
                break error.to_string();
            }
            if attempt > granted.retry.max_attempts {
                attempt -= 1;
                // It was delivered so often that its handlers must have died with their process.
                break "its attempts were used up without an outcome".to_owned();
            }
            if registered.stopping.is_cancelled() {
                return self.release(delivery.acknowledgement, attempt - 1).await;
            }
            let context = self.context(&delivery, attempt);
            let handled = async { handler.handle(context).await };
            let acknowledgement = delivery.acknowledgement.as_deref();
            match self.attempt(&self.span(&message), starting.take(), acknowledgement, handled).await {
                Outcome::Succeeded(()) => {
                    self.counters().handled.increment();
                    return self.accept(delivery.acknowledgement).await;
                }
                Outcome::Cancelled => return self.release(delivery.acknowledgement, attempt - 1).await,
                Outcome::Failed(error) if attempt >= granted.retry.max_attempts => break error.to_string(),
                Outcome::Failed(_) => {}
            }
            if !self.wait(granted.retry.delay_after(attempt), acknowledgement).await {
                return self.release(delivery.acknowledgement, attempt).await;
            }
            attempt += 1;
        };
        if !granted.dead_letter {
            self.counters().dropped.increment();
            return self.accept(delivery.acknowledgement).await;
        }
        let letter = DeadLetter {
            original: delivery.original.take().unwrap_or_else(|| message.encode()),
            message_id: message.id.clone(),
            subscriber: (*registered.address).clone(),
            reason,
            attempts: attempt,
            first_attempt_at,
            last_attempt_at: now(),
        };
        // Rare, and boxed so that it does not enlarge the future of every delivery.
        Box::pin(self.bury(letter, delivery.acknowledgement)).await;
    }

    /// Keeps a dead letter. The message is not acknowledged before that succeeded.
    async fn bury(mut self, letter: DeadLetter, acknowledgement: Acknowledging) {
        let mut backoff = Backoff::default();
        loop {
            let kept = self.engine.transport.keep_dead_letter(letter.clone());
            match self.engine.within_operation_timeout("dead letter", kept).await {
                Ok(()) => {
                    self.counters().dead_lettered.increment();
                    return self.accept(acknowledgement).await;
                }
                Err(error) => {
                    self.counters().dead_letter_failures.increment();
                    self.warn(&error, "a dead letter could not be kept");
                }
            }
            if !self.wait(backoff.next_delay(), acknowledgement.as_deref()).await {
                return self.release(acknowledgement, letter.attempts).await;
            }
        }
    }

    /// Waits, without a running handler's place if there is room to wait elsewhere. Returns whether the registration
    /// still takes work.
    async fn wait(&mut self, delay: Duration, acknowledgement: Option<&dyn Acknowledgement>) -> bool {
        let elsewhere = Arc::clone(&self.registered.waiting).try_acquire_owned();
        if elsewhere.is_ok() {
            self.place = None;
        }
        let its_turn = async {
            tokio::time::sleep(delay).await;
            if self.place.is_none() {
                self.place = Arc::clone(&self.registered.handlers).acquire_owned().await.ok();
            }
        };
        tokio::select! {
            () = self.registered.stopping.cancelled() => return false,
            () = its_turn => {}
            never = extend_lease(acknowledgement) => match never {},
        }
        self.place.is_some()
    }

    fn context(&self, delivery: &Delivery<T::ReplyTo>, attempt: u32) -> Context {
        Context {
            message: Arc::clone(&delivery.message),
            address: Arc::clone(&self.registered.address),
            bridge: Arc::clone(&self.engine) as Arc<dyn EventBridge>,
            attempt,
            deadline: delivery.deadline,
            cancellation: Arc::clone(&self.engine.cancellation),
        }
    }

    /// The span of one attempt, named by OpenTelemetry's conventions for messaging.
    fn span(&self, message: &Message) -> Span {
        let span = tracing::info_span!(
            "process",
            otel.kind = "consumer",
            messaging.system = T::NAME,
            messaging.operation.type = "process",
            messaging.destination.name = %self.registered.address,
            messaging.message.id = %message.id,
        );
        message.trace_context.adopt(&span);
        span
    }

    /// Runs a handler once: isolated from its panics, within its time, and until some patience after the end of the
    /// bridge's grace period.
    async fn attempt<R>(
        &self,
        span: &Span,
        starting: Option<Pass>,
        acknowledgement: Option<&dyn Acknowledgement>,
        handler: impl Future<Output = Result<R, HandlerError>> + Send,
    ) -> Outcome<R> {
        let cancellation = &self.engine.cancellation;
        let end = self.registered.granted().handler_timeout.map(|limit| Instant::now() + limit);
        drop(starting);
        // The handler's future is dropped in there, which may panic as well.
        let result = AssertUnwindSafe(async {
            let out_of_time = async {
                match end {
                    // The timers are boxed: they are rare, and would make up half of the future.
                    Some(end) => Box::pin(tokio::time::sleep_until(end)).await,
                    None => std::future::pending().await,
                }
            };
            let given_up = async {
                cancellation.cancelled().await;
                Box::pin(tokio::time::sleep(CANCELLATION_PATIENCE)).await;
            };
            tokio::select! {
                biased;
                result = handler.instrument(span.clone()) => Some(result),
                () = out_of_time => Some(Err(HandlerError::unhandled("the handler ran out of its time"))),
                () = given_up => None,
                never = extend_lease(acknowledgement) => match never {},
            }
        });
        let error = match result.catch_unwind().await {
            Ok(Some(Ok(value))) => return Outcome::Succeeded(value),
            Ok(None) => return Outcome::Cancelled,
            Ok(Some(Err(_))) if cancellation.is_cancelled() => return Outcome::Cancelled,
            Ok(Some(Err(error))) => error,
            Err(panic) => {
                self.counters().panicked.increment();
                HandlerError::unhandled(format!("the handler panicked: {}", panic_message(&*panic)))
            }
        };
        self.counters().failed_attempts.increment();
        if let HandlerError::Unhandled(_) = error {
            self.warn(&error, "a handler failed");
        }
        Outcome::Failed(error)
    }

    async fn accept(&self, acknowledgement: Acknowledging) {
        if let Some(acknowledgement) = acknowledgement {
            self.acknowledge(acknowledgement.accept()).await;
        }
    }

    /// Acknowledges a delivery now if it is to be handled at most once. Returns whether it may be handled: if the
    /// broker does not know, it will deliver it again.
    async fn accept_on_receive(&self, delivery: &mut Delivery<T::ReplyTo>) -> bool {
        if self.registered.granted().acknowledge != Acknowledge::OnReceive {
            return true;
        }
        match delivery.acknowledgement.take() {
            Some(acknowledgement) => self.acknowledge(acknowledgement.accept()).await,
            None => true,
        }
    }

    async fn release(&self, acknowledgement: Acknowledging, failed_attempts: u32) {
        self.counters().released.increment();
        if let Some(acknowledgement) = acknowledgement {
            self.acknowledge(acknowledgement.release(failed_attempts)).await;
        }
    }

    async fn acknowledge(&self, acknowledgement: impl Future<Output = Result<()>> + Send) -> bool {
        let result = self.engine.within_operation_timeout("acknowledge", acknowledgement).await;
        if let Err(error) = &result {
            self.counters().failed_acknowledgements.increment();
            self.warn(error, "an acknowledgement failed");
        }
        result.is_ok()
    }

    fn counters(&self) -> &Counters {
        &self.engine.shared.counters
    }

    fn warn(&self, error: &dyn Display, what: &'static str) {
        let address = &self.registered.address;
        self.engine
            .shared
            .handler_throttle
            .log(|suppressed| tracing::warn!(bridge = T::NAME, %address, %error, suppressed, "{what}"));
    }
}

/// Keeps the broker waiting while a message is in hand.
async fn extend_lease(acknowledgement: Option<&dyn Acknowledgement>) -> Infallible {
    let leased =
        acknowledgement.and_then(|acknowledgement| Some((acknowledgement, acknowledgement.lease()?)));
    let Some((acknowledgement, lease)) = leased else { return std::future::pending().await };
    loop {
        // Boxed, as most handlers are done before.
        Box::pin(tokio::time::sleep(lease / 3)).await;
        if let Err(error) = acknowledgement.extend().await {
            tracing::debug!(%error, "a lease could not be extended");
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}
