use std::sync::Arc;

use purista_core::adapter::{Consumer, Stop};

use crate::transport::DaprTransport;

/// A command that is served.
pub(crate) type Served = purista_cloudevents::Served<DaprTransport>;

/// A subscription.
pub(crate) type Subscribed = purista_cloudevents::Subscribed<DaprTransport>;

/// What consumes one registration.
#[derive(Debug)]
pub(crate) enum DaprConsumer {
    Command(Arc<Served>),
    Subscription(Arc<Subscribed>),
}

impl Consumer for DaprConsumer {
    /// Requests of the sidecar that come from now on are told to go elsewhere: those of all, as all stop at once.
    async fn stop(&self, _why: Stop) {
        match self {
            Self::Command(served) => served.admission.stop(),
            Self::Subscription(subscribed) => subscribed.admission.stop(),
        }
    }
}
