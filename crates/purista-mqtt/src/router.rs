use std::sync::Arc;

use purista_core::{Message, adapter::Link};
use rumqttc::Publish;

use crate::{
    codec::is_refusal,
    round_trips::RoundTrips,
    routes::{ANSWERS, ROUND_TRIP, Routes},
    session::{Arrival, Inbox},
};

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

impl Inbox for Router {
    async fn take(&self, arrival: Arrival) {
        let publish = arrival.publish;
        let ids =
            publish.properties.as_ref().map_or(&[][..], |properties| &properties.subscription_identifiers);
        match ids.first().copied() {
            Some(ANSWERS) => self.answer(&publish),
            Some(ROUND_TRIP) => self.0.round_trips.end(&publish.payload),
            Some(id) => {
                if let Some(to) = self.0.routes.find(id) {
                    // A consumer takes everything over at once until it is gone.
                    let _gone = to.send(publish).await;
                }
            }
            None => tracing::debug!("a message came without a subscription identifier"),
        }
    }
}
