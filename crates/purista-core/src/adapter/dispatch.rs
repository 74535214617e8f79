//! From a delivery to its acknowledgement: one straight line for commands; the one of subscriptions is beside.

use std::{fmt::Display, future::Future, pin::pin, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    Acknowledgement, Delivery, Engine, Pass, Publish, Slot, Transport,
    attempt::Outcome,
    limits::check_message,
    registered::{Endpoint, Registered},
    spans::failed,
};
use crate::{
    bridge::EventBridge,
    error::{Error, HandlerError, Result},
    handler::Context,
    message::{Message, MessageType, Name, Payload},
    options::{Acknowledge, MAX_TIMEOUT},
    stats::Counters,
    status::StatusCode,
};

/// The `error.type` of a command that no handler gets.
const REFUSED: &str = "refused";

pub(super) fn start<T: Transport>(
    registered: &Arc<Registered<T>>,
    slot: Slot,
    mut delivery: Delivery<T::ReplyTo>,
) {
    let Some(engine) = registered.engine.upgrade() else { return };
    delivery.acknowledgement = delivery.acknowledgement.map(|held| registered.leases.hold(held));
    let work = Work {
        engine,
        registered: Arc::clone(registered),
        starting: Some(slot.starting),
        place: Some(slot.handler),
        _in_hand: registered.in_hand.enter(),
    };
    let home = &registered.shared.home;
    // Always a task: a handler that computes where its message came in would hold up the messages after it, or the other
    // calls of its caller.
    match &registered.endpoint {
        Endpoint::Command(..) => drop(home.spawn(work.command(delivery))),
        Endpoint::Subscription(..) => drop(home.spawn(work.subscription(delivery))),
    }
}

/// The handling of one delivery.
pub(super) struct Work<T: Transport> {
    pub(super) engine: Arc<Engine<T>>,
    pub(super) registered: Arc<Registered<T>>,
    /// Held until the handler starts.
    pub(super) starting: Option<Pass>,
    /// The place of a running handler; given up while the message waits for its next attempt.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// `None` if the registration stopped meanwhile, in which case no handler starts.
    _in_hand: Option<Pass>,
}

pub(super) type Acknowledging = Option<Box<dyn Acknowledgement>>;

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
        let outcome = if message.message_type() == MessageType::Stream {
            counters.stream_frames.increment();
            failed(&span, REFUSED);
            return self.refuse_stream(&message, delivery).await;
        } else if !self.is_addressed_by(&message) {
            counters.refused.increment();
            failed(&span, REFUSED);
            return self.refuse(&message, delivery).await;
        } else if self.is_beyond_limits(&message).is_some() {
            failed(&span, REFUSED);
            Err(StatusCode::BAD_REQUEST)
        } else if self.registered.stopping.is_cancelled() {
            Ok(Outcome::Cancelled)
        } else {
            if !self.accept_on_receive(&mut delivery).await {
                return;
            }
            let context = self.context(&delivery, delivery.attempt);
            // Called in there, as it may panic before there is a future.
            let handled = async { handler.handle(context).await };
            let outcome = self.attempt(&span, starting, handled).await;
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

    /// Tells a caller that its command is not the one that is registered, or that the instance it names is not here.
    /// Whoever shares the route with another command may not be the only one that has it; the last to have a command of
    /// its own address is.
    async fn refuse(&self, message: &Message, delivery: Delivery<T::ReplyTo>) {
        let (instance_id, transport) = (&self.engine.shared.instance_id, &self.engine.transport);
        if let Some(reply_to) = delivery.reply_to {
            let asked = message.receiver.as_ref().map(|receiver| &receiver.address);
            let sent = async {
                if asked == Some(&*self.registered.address) {
                    return transport.respond(Arc::new(message.not_here(instance_id)), reply_to).await;
                }
                let refusal = message.unhandled_error(instance_id, StatusCode::BAD_GATEWAY);
                transport.refuse(Arc::new(refusal), reply_to).await
            };
            if let Err(error) = self.engine.within_operation_timeout("respond", Box::pin(sent)).await {
                self.warn(&error, "a refusal could not be sent");
            }
        }
        self.accept(delivery.acknowledgement).await;
    }

    /// Tells whoever opens a stream that there are none yet.
    async fn refuse_stream(&self, message: &Message, delivery: Delivery<T::ReplyTo>) {
        if let Some(refusal) = message.refused_stream(&self.engine.shared.instance_id) {
            let (refusal, transport) = (Arc::new(refusal), &self.engine.transport);
            let deadline = Instant::now() + self.engine.config.operation_timeout.min(MAX_TIMEOUT);
            let publish = Publish::new(deadline, false);
            let sent = async {
                match delivery.reply_to {
                    Some(reply_to) => transport.respond(refusal, reply_to).await,
                    // Frames find their way by the receiver that they name.
                    None => transport.publish(refusal, publish).await,
                }
            };
            if let Err(error) = self.engine.within_operation_timeout("respond", Box::pin(sent)).await {
                self.warn(&error, "a stream could not be refused");
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
    pub(super) fn is_beyond_limits(&self, message: &Message) -> Option<Error> {
        let error = check_message(message, self.engine.config.max_identity_len).err()?;
        self.counters().malformed.increment();
        self.warn(&error, "a message is beyond the limits");
        Some(error)
    }

    pub(super) fn context(&self, delivery: &Delivery<T::ReplyTo>, attempt: u32) -> Context {
        Context {
            message: Arc::clone(&delivery.message),
            address: Arc::clone(&self.registered.address),
            bridge: Arc::clone(&self.engine) as Arc<dyn EventBridge>,
            attempt,
            deadline: delivery.deadline,
            cancellation: Arc::clone(&self.engine.cancellation),
        }
    }

    pub(super) async fn accept(&self, acknowledgement: Acknowledging) {
        if let Some(acknowledgement) = acknowledgement {
            self.acknowledge(acknowledgement.accept()).await;
        }
    }

    /// Acknowledges a delivery now if it is to be handled at most once. Returns whether it may be handled: if the
    /// broker does not know, it will deliver it again.
    pub(super) async fn accept_on_receive(&self, delivery: &mut Delivery<T::ReplyTo>) -> bool {
        if self.registered.granted().acknowledge != Acknowledge::OnReceive {
            return true;
        }
        match delivery.acknowledgement.take() {
            Some(acknowledgement) => self.acknowledge(acknowledgement.accept()).await,
            None => true,
        }
    }

    pub(super) async fn release(&self, acknowledgement: Acknowledging, failed_attempts: u32) {
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

    pub(super) fn counters(&self) -> &Counters {
        &self.engine.shared.counters
    }

    pub(super) fn warn(&self, error: &dyn Display, what: &'static str) {
        let address = &self.registered.address;
        self.engine
            .shared
            .handler_throttle
            .log(|suppressed| tracing::warn!(bridge = T::NAME, %address, %error, suppressed, "{what}"));
    }
}
