use std::sync::Weak;

use futures_util::future::join_all;
use purista_core::{
    Result,
    adapter::{Consumer, ConsumerTask, Stop},
};

use crate::{consuming::Consuming, pull_consumer::PullConsumer};

/// The consuming end of one registration.
#[derive(Debug)]
pub(crate) struct NatsConsumer {
    pub(crate) parts: Vec<Part>,
    /// Weak, as it holds the registration, which holds this.
    pub(crate) consuming: Weak<Consuming>,
}

/// One source of a registration's messages.
#[derive(Debug)]
pub(crate) enum Part {
    Core(ConsumerTask),
    Pull(Box<PullConsumer>),
}

impl Consumer for NatsConsumer {
    async fn stop(&self, why: Stop) {
        if let Some(consuming) = self.consuming.upgrade() {
            consuming.end();
        }
        join_all(self.parts.iter().map(async |part| match part {
            Part::Core(consumer) => consumer.stop(why).await,
            Part::Pull(consumer) => consumer.stop(why).await,
        }))
        .await;
    }

    async fn close(&self) -> Result<()> {
        let closed = self.parts.iter().map(async |part| match part {
            Part::Core(_) => Ok(()),
            Part::Pull(consumer) => consumer.close().await,
        });
        join_all(closed).await.into_iter().collect()
    }
}
