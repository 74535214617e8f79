use std::sync::Arc;

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};
use purista_core::{
    Result,
    adapter::{Acknowledgement, Pass, async_trait},
};

use crate::{
    acks::Acks,
    codec::{FailedAttempts, given_back},
    connection::Connection,
    topology::Route,
};

/// A message that the broker waits for.
pub(crate) struct Unacknowledged {
    pub(crate) acks: Arc<Acks>,
    pub(crate) tag: u64,
    pub(crate) connection: Arc<Connection>,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
    /// The queue it came from, if it is one whose messages have attempts.
    pub(crate) queue: Option<ShortString>,
    pub(crate) failed: FailedAttempts,
    /// Until it is done with, it takes a place of what the broker sends its consumer without an acknowledgement.
    pub(crate) _in_window: Option<Pass>,
}

#[async_trait]
impl Acknowledgement for Unacknowledged {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.acks.accept(self.tag)
    }

    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        self.give_back(failed_attempts).await
    }
}

impl Unacknowledged {
    pub(crate) async fn give_back(&self, failed_attempts: u32) -> Result<()> {
        if !self.acks.is_usable() {
            // The broker has taken it back by itself.
            return Ok(());
        }
        // The broker counts a delivery that is given back, whatever the reason.
        let counted_as = self.failed.attempt();
        let Some(queue) = self.queue.clone().filter(|_| failed_attempts != counted_as) else {
            return self.acks.requeue(self.tag).await;
        };
        let route = Route {
            exchange: ShortString::default(),
            routing_key: queue,
            properties: given_back(&self.properties, failed_attempts),
        };
        match self.connection.publish_to_queue(route, self.body.clone()).await {
            // A queue that is gone had no other member.
            Ok(_) => self.acks.accept(self.tag),
            Err(error) => {
                tracing::debug!(%error, "a message was given back with one more attempt than it had");
                self.acks.requeue(self.tag).await
            }
        }
    }
}

impl std::fmt::Debug for Unacknowledged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unacknowledged").field("tag", &self.tag).finish_non_exhaustive()
    }
}
