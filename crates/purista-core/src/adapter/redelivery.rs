//! What becomes of a subscription's message: handled, tried again, kept as a dead letter, or given back.

use std::{sync::Arc, time::Duration};

use super::{
    Backoff, DeadLetter, Delivery, Transport,
    attempt::Outcome,
    dispatch::{Acknowledging, Work},
    registered::Endpoint,
};
use crate::message::now;

impl<T: Transport> Work<T> {
    pub(super) async fn subscription(mut self, mut delivery: Delivery<T::ReplyTo>) {
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
            match self.attempt(&self.span(&message), starting.take(), handled).await {
                Outcome::Succeeded(()) => {
                    self.counters().handled.increment();
                    return self.accept(delivery.acknowledgement).await;
                }
                Outcome::Cancelled => return self.release(delivery.acknowledgement, attempt - 1).await,
                Outcome::Failed(error) if attempt >= granted.retry.max_attempts => break error.to_string(),
                Outcome::Failed(_) => {}
            }
            if !self.wait(granted.retry.delay_after(attempt)).await {
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
            if !self.wait(backoff.next_delay()).await {
                return self.release(acknowledgement, letter.attempts).await;
            }
        }
    }

    /// Waits, without a running handler's place if there is room to wait elsewhere. Returns whether the registration
    /// still takes work.
    async fn wait(&mut self, delay: Duration) -> bool {
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
        }
        self.place.is_some()
    }
}
