//! What becomes of a subscription's message: handled, tried again, kept as a dead letter, or given back.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Backoff, DeadLetter, Delivery, Transport,
    attempt::Outcome,
    dispatch::{Acknowledging, Work},
    registered::Endpoint,
};
use crate::{message::now, options::Sharing};

impl<T: Transport> Work<T> {
    pub(super) async fn subscription(mut self, mut delivery: Delivery<T::ReplyTo>) {
        let registered = Arc::clone(&self.registered);
        let Endpoint::Subscription(definition, handler) = &registered.endpoint else { return };
        let granted = registered.granted();
        let message = Arc::clone(&delivery.message);
        let bytes = delivery.original.as_ref().map_or_else(|| message.payload_len(), Bytes::len);
        let first_attempt_at = now();
        let mut starting = self.starting.take();

        self.counters().delivered.increment();
        let is_unwanted = !definition.filter.matches(&message);
        // What was sent to this subscriber on purpose is not dropped because its filter is another one by now.
        if is_unwanted && (delivery.redrives == 0 || !granted.dead_letter) {
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
            if is_unwanted {
                attempt -= 1;
                break "the filter of the subscriber does not match it any more".to_owned();
            }
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
            if !self.wait(granted.retry.delay_after(attempt), bytes).await {
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
            instance_id: (granted.sharing == Sharing::Broadcast)
                .then(|| self.engine.shared.instance_id.clone()),
            redrives: delivery.redrives,
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
            if !self.wait(backoff.next_delay(), letter.original.len()).await {
                return self.release(acknowledgement, letter.attempts).await;
            }
        }
    }

    /// Waits for the next attempt of a message of so many bytes, without a running handler's place as soon as there is
    /// room to wait elsewhere. Returns whether the registration still takes work.
    async fn wait(&mut self, delay: Duration, bytes: usize) -> bool {
        let registered = Arc::clone(&self.registered);
        let mut next_attempt = pin!(tokio::time::sleep(delay));
        let its_turn = async {
            let room = tokio::select! {
                biased;
                room = registered.waiting_room.enter(bytes) => room,
                () = &mut next_attempt => return,
            };
            self.place = None;
            next_attempt.await;
            self.place = Arc::clone(&registered.handlers).acquire_owned().await.ok();
            drop(room);
        };
        tokio::select! {
            () = registered.stopping.cancelled() => return false,
            () = its_turn => {}
        }
        self.place.is_some()
    }
}
