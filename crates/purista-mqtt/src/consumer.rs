use purista_core::{
    Result,
    adapter::{Consumer, Stop},
};

use crate::{command_consumer::CommandConsumer, subscription_consumer::SubscriptionConsumer};

/// What consumes one registration.
#[derive(Debug)]
pub(crate) enum MqttConsumer {
    Command(CommandConsumer),
    Subscription(SubscriptionConsumer),
}

impl Consumer for MqttConsumer {
    async fn stop(&self, why: Stop) {
        match self {
            Self::Command(consumer) => consumer.stop(why).await,
            Self::Subscription(consumer) => consumer.stop(why).await,
        }
    }

    async fn close(&self) -> Result<()> {
        if let Self::Subscription(consumer) = self {
            consumer.close().await;
        }
        Ok(())
    }
}
