//! Subscriptions that are delivered by requests.

use std::sync::Arc;

use bytes::Bytes;
use purista_core::{
    Filter, Id, Message, MessageType, Result,
    adapter::{Acknowledgement, Delivery, Intake, Transport, async_trait},
};

use crate::{
    admission::Admission,
    recent::{Claim, Recent, outcome},
};

/// A subscription whose messages come as requests. Several may share a path: each finishes apart, and handles a message
/// once when the broker delivers it to all of them again.
#[derive(Debug)]
pub struct Subscribed<T: Transport> {
    filter: Filter,
    /// Whether it is let in, and where it is handled.
    pub admission: Admission<T>,
    recent: Arc<Recent<Key, Settled>>,
}

/// What tells messages apart: a response has the id of its command.
type Key = (MessageType, Id);

/// What became of a message for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// It is done with.
    Accepted,
    /// It is to be delivered again.
    Released,
}

impl<T: Transport> Subscribed<T> {
    /// Creates a subscription with what it asks for and where it is handled.
    #[must_use]
    pub fn new(filter: Filter, intake: Intake<T>) -> Arc<Self> {
        Arc::new(Self { filter, admission: Admission::new(intake), recent: Recent::new() })
    }

    /// Has a message handled that came on the subscription's path, once, and returns what became of it. Where others
    /// share the path, what is not for it is accepted at once (`passes_others`); otherwise it counts as misrouted.
    ///
    /// # Cancel safety
    ///
    /// A handler that has started goes on if the request that brought the message ends; one that has not is given up.
    pub async fn handle(&self, message: &Arc<Message>, original: &Bytes, passes_others: bool) -> Settled {
        if passes_others && !self.filter.matches(message) {
            return Settled::Accepted;
        }
        loop {
            let (claim, settled) = self.recent.claim((message.message_type(), message.id.clone()));
            let is_mine = claim.is_some();
            if let Some(claim) = claim {
                if self.admission.is_stopped() {
                    return Settled::Released;
                }
                let Some(slot) = self.admission.intake.slot().await else { return Settled::Released };
                let delivery = Delivery::new(Arc::clone(message)).with_original(original.clone());
                self.admission
                    .intake
                    .deliver(slot, delivery.with_acknowledgement(Box::new(RequestAcknowledgement(claim))));
            }
            match outcome(settled).await {
                Some(settled) => return settled,
                None if is_mine => return Settled::Released,
                // Whoever brought it before has given up.
                None => {}
            }
        }
    }
}

/// Tells the requests that brought a message what became of it.
#[derive(Debug)]
struct RequestAcknowledgement(Claim<Key, Settled>);

#[async_trait]
impl Acknowledgement for RequestAcknowledgement {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.0.settle(Settled::Accepted, 0);
        Ok(())
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        self.0.settle_once(Settled::Released);
        Ok(())
    }
}
