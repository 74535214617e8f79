//! From a message that came to the handler that is free for it.

use std::sync::Arc;

use bytes::Bytes;
use purista_core::{
    Message,
    adapter::{Acknowledgement as _, Delivery, Slot},
};
use tokio::time::Instant;

use crate::{
    codec::{delivery_info, times_given_back},
    consuming::Why,
    leased::Leased,
    pull_consumer::Task,
    releases,
};

/// A message that came and waits for a free handler.
pub(crate) struct Item {
    message: Arc<Message>,
    original: Bytes,
    pub(crate) acknowledgement: Leased,
    attempt: u32,
}

impl Task {
    pub(crate) async fn take(&mut self, message: async_nats::Message) {
        self.heard = Instant::now();
        self.state.health.up(Why::Silent);
        if let Some(status) = message.status {
            return self.take_status(status, &message);
        }
        self.accepted();
        self.asked_for = self.asked_for.saturating_sub(1);
        let was_given_back = times_given_back(&message) > 0;
        let Some((reply_to, info)) =
            message.reply.and_then(|reply_to| Some((reply_to.clone(), delivery_info(reply_to.as_str())?)))
        else {
            return;
        };
        self.state.came(info.sequence);
        let acknowledgement = Leased { shared: Arc::clone(&self.state), reply_to, info };
        if was_given_back {
            // It was seen when it was sent.
            return acknowledgement.terminate().await;
        }
        let decoded = match Message::decode(message.payload.clone()) {
            Ok(decoded) => Arc::new(decoded),
            Err(error) => {
                self.state.connection.link().malformed(&error);
                return acknowledgement.terminate().await;
            }
        };
        let item = Item { message: decoded, original: message.payload, acknowledgement, attempt: 1 };
        if info.delivered == 1 {
            return self.offer(item);
        }
        self.counting += 1;
        let counted = self.counted.clone();
        tokio::spawn(async move {
            let state = &item.acknowledgement.shared;
            let attempt = releases::attempt(&state.connection, state.consumer.name(), info).await;
            // Nobody listens after the end.
            let _ended = counted.send(Item { attempt, ..item }).await;
        });
    }

    pub(crate) fn offer(&mut self, item: Item) {
        self.waiting.push_back(item);
        if let Ok(slot) = self.intake.try_slot() {
            self.deliver(slot);
        }
    }

    /// Delivers what came first, if anything waits; otherwise there is a free handler to ask for.
    pub(crate) fn deliver(&mut self, slot: Slot) {
        let Some(Item { message, original, acknowledgement, attempt }) = self.waiting.pop_front() else {
            return;
        };
        let delivery = Delivery::new(message)
            .with_original(original)
            .with_acknowledgement(Box::new(acknowledgement))
            .with_attempt(attempt);
        self.intake.deliver(slot, delivery);
    }

    pub(crate) async fn finish(mut self) {
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
        let mut last = Vec::new();
        self.subscription.drain(&self.state.connection, |message| last.push(message)).await;
        for message in last {
            self.take(message).await;
        }
        while self.counting > 0 {
            let Some(item) = self.recounted.recv().await else { break };
            self.counting -= 1;
            self.waiting.push_back(item);
        }
        // What found a free handler just now is handled; the rest goes back.
        for item in std::mem::take(&mut self.waiting) {
            let failed_attempts = item.attempt - 1;
            if let Err(error) = Box::new(item.acknowledgement).release(failed_attempts).await {
                tracing::warn!(%error, "a message could not be given back: the server will do so");
            }
        }
    }
}
