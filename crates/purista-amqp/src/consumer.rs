use purista_core::{
    Result,
    adapter::{Consumer, Stop},
};

use crate::queue_consumer::QueueConsumer;

/// The consuming end of one registration.
#[derive(Debug)]
pub(crate) struct AmqpConsumer(pub(crate) QueueConsumer);

impl Consumer for AmqpConsumer {
    async fn stop(&self, why: Stop) {
        self.0.stop(why).await;
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
