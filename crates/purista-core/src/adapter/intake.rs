use std::{fmt, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, TryAcquireError},
    task::JoinHandle,
};

use super::{
    Delivery, Link, Pass, Transport, dispatch,
    registered::{Endpoint, Registered},
};
use crate::{error::Error, grant::Granted, message::Message};

/// Where a transport hands over the deliveries of one registration.
///
/// First get a [`Slot`], then a message from the broker, then [`deliver`](Self::deliver) it: so no more is taken from
/// the broker than can be handled. Cheap to clone.
pub struct Intake<T: Transport>(pub(super) Arc<Registered<T>>);

/// The place of one running handler. Dropping it frees the place.
#[derive(Debug)]
pub struct Slot {
    pub(super) handler: OwnedSemaphorePermit,
    /// Until the handler starts, so that a stop waits for what is between here and there.
    pub(super) starting: Pass,
}

/// Why there is no [`Slot`] at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Busy {
    /// As many handlers run as may.
    Full,
    /// The registration takes no more work.
    Stopped,
}

impl<T: Transport> Intake<T> {
    /// Returns what the registration got of what it asked for.
    #[must_use]
    pub fn granted(&self) -> Granted {
        self.0.granted()
    }

    /// Returns how many handlers may run at once.
    #[must_use]
    pub fn max_concurrency(&self) -> usize {
        self.0.granted().max_concurrency
    }

    /// Returns how many more handlers may start now.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.0.handlers.available_permits()
    }

    /// Returns whether messages whose handler failed are tried again. While they wait for that they have no slot: all
    /// that the broker sends without an acknowledgement can wait while slots are free. Who gets a slot then, and has
    /// nothing for it, asks the broker for more. How many wait is bounded here: beyond, they keep their slots.
    #[must_use]
    pub fn tries_again(&self) -> bool {
        matches!(self.0.endpoint, Endpoint::Subscription(..))
    }

    /// Gets a slot at once.
    ///
    /// # Errors
    ///
    /// [`Busy`] tells why there is none.
    pub fn try_slot(&self) -> Result<Slot, Busy> {
        let handler = Arc::clone(&self.0.handlers).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => Busy::Full,
            TryAcquireError::Closed => Busy::Stopped,
        })?;
        self.enter(handler)
    }

    /// Waits for a slot; `None` once the registration takes no more work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, but the place in the queue is lost.
    pub async fn slot(&self) -> Option<Slot> {
        let handler = Arc::clone(&self.0.handlers).acquire_owned().await.ok()?;
        self.enter(handler).ok()
    }

    fn enter(&self, handler: OwnedSemaphorePermit) -> Result<Slot, Busy> {
        // A bridge that was dropped without shutdown takes no more work either.
        if self.0.engine.strong_count() == 0 || self.0.shared.is_over() {
            return Err(Busy::Stopped);
        }
        let starting = self.0.starting.enter().ok_or(Busy::Stopped)?;
        Ok(Slot { handler, starting })
    }

    /// Returns whether the bridge of the registration is there to take something.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.engine.strong_count() > 0 && !self.0.shared.is_over()
    }

    /// Spawns a task on the runtime of the bridge, which outlives others that use it.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.shared.home.spawn(task)
    }

    /// Tells that the registration stopped consuming while the connection lives.
    pub fn consumer_down(&self) {
        self.0.shared.consumer_down(self.0.endpoint.key());
    }

    /// Tells that the registration consumes again.
    pub fn consumer_up(&self) {
        self.0.shared.consumer_up(&self.0.endpoint.key());
    }

    /// Counts messages that are given up as nobody is there any more to get them.
    pub fn abandoned(&self, messages: usize) {
        (0..messages).for_each(|_| self.0.shared.counters.abandoned.increment());
    }

    /// Counts and logs a message that is lost, as there is no more room to let it wait: only where the broker gives no
    /// back-pressure.
    pub fn overflowed(&self) {
        let shared = &self.0.shared;
        shared.counters.overflowed.increment();
        shared.handler_throttle.log(|suppressed| {
            tracing::warn!(address = %self.0.address, suppressed, "no room for a message: it is lost");
        });
    }

    /// Counts and logs a command that cannot be decoded, and answers its caller if the caller is known: from the bytes, or
    /// from the headers that `beside` returns for the names `correlationId`, `tenantId`,
    /// `principalId`, `senderInstanceId`, `senderServiceName`, `senderServiceVersion` and `senderServiceTarget`.
    pub fn unreadable(
        &self,
        error: &Error,
        bytes: &[u8],
        reply_to: T::ReplyTo,
        beside: impl Fn(&str) -> Option<String>,
    ) {
        Link(Arc::clone(&self.0.shared)).malformed(error);
        let (Endpoint::Command(command, _), Some(engine)) = (&self.0.endpoint, self.0.engine.upgrade())
        else {
            return;
        };
        let max_len = engine.config.max_identity_len;
        let Some(command) = Message::unread_command(bytes, &command.address, beside, max_len) else { return };
        engine.refuse_unread(&command, reply_to);
    }

    /// Has a delivery handled, on a task of its own.
    pub fn deliver(&self, slot: Slot, delivery: Delivery<T::ReplyTo>) {
        dispatch::start(&self.0, slot, delivery);
    }
}

impl<T: Transport> Clone for Intake<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Transport> fmt::Debug for Intake<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Intake").field(&self.0).finish()
    }
}
