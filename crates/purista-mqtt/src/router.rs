use std::{sync::Arc, time::Duration};

use purista_core::{ErrorKind, adapter::Link};
use rumqttc::Publish;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use crate::{
    codec::is_refusal,
    error::error,
    round_trips::RoundTrips,
    routes::{ANSWERS, ROUND_TRIP, Routes},
    session::{Arrival, Inbox},
};

/// How long one consumer may hold up the others.
const STALL: Duration = Duration::from_millis(500);

/// Hands over what comes to an instance, by its subscription identifier.
#[derive(Clone, Debug)]
pub(crate) struct Router(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    routes: Routes,
    round_trips: RoundTrips,
}

impl Router {
    pub(crate) fn new(link: Link) -> Self {
        Self(Arc::new(Inner { link, routes: Routes::default(), round_trips: RoundTrips::default() }))
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.0.routes
    }

    pub(crate) fn round_trips(&self) -> &RoundTrips {
        &self.0.round_trips
    }

    fn answer(&self, publish: &Publish) {
        self.0.link.receive(&publish.payload, is_refusal(publish));
    }
}

/// Puts a message into the queue of a consumer, which has room for it at once: one that has none must not hold up the others
/// for long. Returns whether the message is in the queue.
async fn enqueue(to: &mpsc::Sender<Publish>, publish: Publish) -> bool {
    match to.try_send(publish) {
        Ok(()) => true,
        Err(TrySendError::Full(publish)) => {
            timeout(STALL, to.send(publish)).await.is_ok_and(|sent| sent.is_ok())
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

impl Inbox for Router {
    async fn take(&self, arrival: Arrival) {
        let publish = arrival.publish;
        let ids =
            publish.properties.as_ref().map_or(&[][..], |properties| &properties.subscription_identifiers);
        match ids.first().copied() {
            Some(ANSWERS) => self.answer(&publish),
            Some(ROUND_TRIP) => self.0.round_trips.end(&publish.payload),
            Some(id) => match self.0.routes.find(id) {
                Some(to) => {
                    if !enqueue(&to, publish).await {
                        self.0.link.overflowed();
                    }
                }
                None => {
                    self.0.link.overflowed();
                    if let Some(filter) = self.0.routes.take_abandoned(id) {
                        tracing::debug!(filter, "a subscription that nobody wants any more is ended");
                        let _next_time = arrival.client.try_unsubscribe(filter);
                    }
                }
            },
            None => {
                let context = "it came without a subscription identifier, which tells who it is for";
                self.0.link.malformed(&error(ErrorKind::InvalidMessage, "receive").with_context(context));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::QoS;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_does_not_take_over_holds_nobody_up_for_long() {
        let publish = || Publish::new("topic", QoS::AtLeastOnce, "", None);
        let (to, mut taken) = mpsc::channel(1);
        assert!(enqueue(&to, publish()).await);
        let began = tokio::time::Instant::now();
        assert!(!enqueue(&to, publish()).await);
        assert_eq!(began.elapsed(), STALL);
        // One that is only slow gets it.
        let slow = tokio::spawn(async move {
            tokio::time::sleep(STALL / 2).await;
            taken.recv().await.is_some() && taken.recv().await.is_some()
        });
        assert!(enqueue(&to, publish()).await && slow.await.unwrap());
        assert!(!enqueue(&to, publish()).await, "nobody is there any more");
    }
}
