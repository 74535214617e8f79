use std::{sync::Arc, time::Duration};

use purista_core::{Message, adapter::Link};
use rumqttc::Publish;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::timeout,
};

use crate::{
    codec::is_refusal,
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
        match Message::decode(publish.payload.clone()) {
            Ok(response) if is_refusal(publish) => self.0.link.refused(&response),
            Ok(response) => self.0.link.respond(Arc::new(response)),
            Err(error) => self.0.link.malformed(&error),
        }
    }
}

/// Consumers take over at once. One that does not must not hold up the others for long.
async fn hand_over(to: &mpsc::Sender<Publish>, publish: Publish) {
    if let Err(TrySendError::Full(publish)) = to.try_send(publish)
        && timeout(STALL, to.send(publish)).await.is_err()
    {
        tracing::warn!("a message is lost, as it was not taken over in time");
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
                Some(to) => hand_over(&to, publish).await,
                None => {
                    if let Some(filter) = self.0.routes.take_abandoned(id) {
                        tracing::debug!(filter, "a subscription that nobody wants any more is ended");
                        let _next_time = arrival.client.try_unsubscribe(filter);
                    }
                }
            },
            None => tracing::debug!("a message came without a subscription identifier"),
        }
    }
}
