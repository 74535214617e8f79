use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use purista_core::{
    Filter, Id, Message, MessageType, Result,
    adapter::{Acknowledgement, Delivery, Intake, async_trait},
};

use crate::{
    recent::{Claim, Recent, outcome},
    transport::DaprTransport,
};

/// A subscription. The sidecar delivers its messages as requests.
#[derive(Debug)]
pub(crate) struct SubscriptionConsumer {
    pub(crate) subscribed: Arc<Subscribed>,
}

/// What is known of a subscription.
#[derive(Debug)]
pub(crate) struct Subscribed {
    filter: Filter,
    intake: Intake<DaprTransport>,
    is_stopped: AtomicBool,
    /// Those that share a topic finish apart, and the component delivers to all of them again.
    recent: Arc<Recent<Key, Settled>>,
}

/// What tells messages apart: a response has the id of its command.
type Key = (MessageType, Id);

/// What became of a message for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is done with.
    Accepted,
    /// It is to be delivered again.
    Released,
}

impl Subscribed {
    pub(crate) fn new(filter: Filter, intake: Intake<DaprTransport>) -> Arc<Self> {
        Arc::new(Self { filter, intake, is_stopped: AtomicBool::new(false), recent: Recent::new() })
    }

    /// Takes no more messages.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Tells whether the sidecar can deliver to it.
    pub(crate) fn tell(&self, consumes: bool) {
        match consumes {
            true => self.intake.consumer_up(),
            false => self.intake.consumer_down(),
        }
    }

    /// Returns whether it takes no more messages.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Has a message handled that came on the subscription's topic, once. If the request that brought it ends before, it
    /// is handled all the same once it has started.
    pub(crate) async fn handle(&self, message: &Arc<Message>, original: &Bytes, is_for_all: bool) -> Settled {
        // On a topic of its own, what is not for it did come wrong: that is counted where it is handled.
        if is_for_all && !self.filter.matches(message) {
            return Settled::Accepted;
        }
        loop {
            let (claim, settled) = self.recent.claim((message.message_type(), message.id.clone()));
            let is_mine = claim.is_some();
            if let Some(claim) = claim {
                if self.is_stopped() {
                    return Settled::Released;
                }
                let Some(slot) = self.intake.slot().await else { return Settled::Released };
                let delivery = Delivery::new(Arc::clone(message)).with_original(original.clone());
                self.intake
                    .deliver(slot, delivery.with_acknowledgement(Box::new(DaprAcknowledgement(claim))));
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
struct DaprAcknowledgement(Claim<Key, Settled>);

#[async_trait]
impl Acknowledgement for DaprAcknowledgement {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.0.settle(Settled::Accepted, 0);
        Ok(())
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        self.0.settle_once(Settled::Released);
        Ok(())
    }
}
