//! Publishing over one connection after the other.

use std::time::Duration;

use purista_core::{ErrorKind, Message, MessageType, Result, adapter::Backoff};
use rumqttc::PubAckReason;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    codec::{Headers, Reply, response},
    connection::Connection,
    error::refused,
    session::Failed,
};

/// How often in a row a connection is lost at once when a packet is sent until that is taken for the reason: some brokers
/// close the connection without a word for what is too large, and over WebSocket the client does not understand
/// Mosquitto's.
const SUSPICIONS: usize = 3;

/// What is at once. Others may be before it.
const SUDDEN: Duration = Duration::from_secs(5);

const NO_LIMIT: &str = "the broker closes the connection for it";

impl Connection {
    /// Publishes a message until the broker has taken it, over one connection after the other. Returns whether somebody
    /// gets it.
    pub(crate) async fn publish_until_taken(
        &self,
        message: &Message,
        headers: impl Fn() -> Headers,
        operation: &'static str,
    ) -> Result<bool> {
        let payload = message.encode();
        let mut suspicions = 0;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let session = self.can_send().await?;
            let settles = *self.settles.lock();
            // An announcement is for those who are there. While it waits, it keeps a bridge that was dropped.
            if settles > Instant::now() && message.message_type() != MessageType::InfoServiceFunctionAdded {
                // Rare, and boxed so that an emit does not carry room for it.
                Box::pin(sleep_until(settles)).await;
            }
            let sent = Instant::now();
            match session.publish(self.names.topic(message), payload.clone(), headers()).await {
                Ok(PubAckReason::Success) => return Ok(true),
                Ok(PubAckReason::NoMatchingSubscribers) => return Ok(false),
                Ok(PubAckReason::QuotaExceeded) => sleep(backoff.next_delay()).await,
                Ok(reason) => return Err(refused(reason, operation)),
                Err(Failed::Lost) => self.is_replaced(&session).await?,
                Err(Failed::Suspect { size }) => {
                    suspicions = if sent.elapsed() < SUDDEN { suspicions + 1 } else { 1 };
                    if suspicions == SUSPICIONS {
                        return Err(session.blame(size).into_error(operation).with_context(NO_LIMIT));
                    }
                    self.is_replaced(&session).await?;
                }
                Err(failed) => return Err(failed.into_error(operation)),
            }
        }
    }

    /// Sends an answer. One that the broker takes from nobody, as it is too large, is replaced by an error that says so.
    pub(crate) async fn answer_call(&self, answer: &Message, reply: &Reply) -> Result<()> {
        let session = self.can_send().await?;
        let sent = session.send(self.names.topic(answer), answer.encode(), response(reply)).await;
        let failed = match sent {
            Ok(()) => return Ok(()),
            Err(failed) => failed.into_error("respond"),
        };
        if let ErrorKind::PayloadTooLarge { .. } = failed.kind() {
            let instead = answer.too_large();
            let session = self.can_send().await?;
            let sent = session.send(self.names.topic(&instead), instead.encode(), response(reply)).await;
            sent.map_err(|failed| failed.into_error("respond"))?;
        }
        Err(failed)
    }
}
