use std::{sync::Arc, time::Duration};

use async_nats::Subject;
use bytes::Bytes;
use purista_core::{
    Result,
    adapter::{Acknowledgement, async_trait},
};

use crate::{codec::DeliveryInfo, pull_state::PullState, releases};

/// A delivery that the server waits to be acknowledged.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) shared: Arc<PullState>,
    pub(crate) reply_to: Subject,
    pub(crate) info: DeliveryInfo,
}

impl Leased {
    async fn say(&self, what: &'static [u8]) -> Result<()> {
        let connection = &self.shared.connection;
        connection.ready().await?;
        connection.publish(self.reply_to.clone(), None, None, Bytes::from_static(what)).await
    }

    /// It will never be handled.
    pub(crate) async fn terminate(&self) {
        if let Err(error) = self.say(b"+TERM").await {
            tracing::debug!(%error, "a malformed message could not be given up");
        }
    }
}

#[async_trait]
impl Acknowledgement for Leased {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.say(b"+ACK").await
    }

    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        let PullState { connection, consumer, .. } = &*self.shared;
        if let Err(error) = releases::note(connection, consumer.name(), self.info, failed_attempts).await {
            tracing::warn!(%error, "the attempts of a message could not be noted");
        }
        self.say(b"-NAK").await
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.shared.consumer.ack_wait())
    }

    async fn extend(&self) -> Result<()> {
        self.say(b"+WPI").await
    }
}
