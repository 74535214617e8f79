use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, future::ready, stream::once};
use lapin::{Consumer, message::Delivery, types::ShortString};
use purista_core::adapter::{Gate, Pass};

use crate::topology::Plan;

/// What comes from the consumers of a channel.
pub(crate) enum Event {
    /// A message.
    Came(Box<Came>),
    /// The broker has cancelled the consumer with this tag, or the channel is closed.
    Ended(ShortString),
}

/// A message that came.
pub(crate) struct Came {
    pub(crate) delivery: Delivery,
    /// By which of the plans.
    pub(crate) plan: usize,
    /// Dropped when it is done with.
    pub(crate) in_window: Option<Pass>,
}

pub(crate) type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// A consumer of a queue, and how many of its messages are not done with: the broker sends it no more than its prefetch.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) tag: ShortString,
    pub(crate) plan: usize,
    prefetch: usize,
    window: Arc<Gate>,
}

impl Source {
    pub(crate) fn new(consumer: Consumer, plan: usize, plans: &[Plan]) -> (Self, Events) {
        let tag = consumer.tag();
        let window = Gate::new();
        let entered = Arc::clone(&window);
        let came = consumer.scan((), move |(), delivery| {
            let came = |delivery| Came { delivery, plan, in_window: entered.enter() };
            ready(delivery.ok().map(|delivery| Event::Came(Box::new(came(delivery)))))
        });
        let ended = tag.clone();
        let events = Box::pin(came.chain(once(async { Event::Ended(ended) })));
        (Self { tag, plan, prefetch: usize::from(plans[plan].prefetch), window }, events)
    }

    /// Returns whether the broker sends nothing more until something is acknowledged.
    pub(crate) fn is_full(&self) -> bool {
        self.window.count() >= self.prefetch
    }
}
