use purista_core::{
    Result,
    adapter::{Consumer, Stop},
};

use crate::{command_consumer::CommandConsumer, subscription_consumer::SubscriptionConsumer};

/// What consumes one registration.
#[derive(Debug)]
pub(crate) enum DaprConsumer {
    Command(CommandConsumer),
    Subscription(SubscriptionConsumer),
}

impl Consumer for DaprConsumer {
    /// Requests of the sidecar that come from now on are told to go elsewhere: those of all, as all stop at once.
    async fn stop(&self, _why: Stop) {
        match self {
            Self::Command(consumer) => consumer.served.stop(),
            Self::Subscription(consumer) => consumer.subscribed.stop(),
        }
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
