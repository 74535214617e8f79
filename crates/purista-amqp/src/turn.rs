use std::time::Duration;

use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_core::{ErrorKind, Result, adapter::Backoff};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    channels::OpenChannel,
    error::{from_lapin, soft_error},
    session::Session,
};

/// How long the broker keeps the turn of an instance that is stuck.
const EXPIRES_MS: i32 = 10_000;

/// The turn to look at something at the broker, and to change it. One instance has it at a time: it is an
/// exclusive queue, which the broker lets no other connection declare.
pub(crate) struct Turn {
    channel: OpenChannel,
    queue: ShortString,
}

impl Turn {
    /// Waits for the turn; `None` for who may not have one. Neither may that one change anything then.
    pub(crate) async fn take_if_allowed(session: &Session, queue: ShortString) -> Result<Option<Self>> {
        match Self::take(session, queue).await {
            Err(error) if error.kind() == ErrorKind::Forbidden => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// Waits for the turn.
    pub(crate) async fn take(session: &Session, queue: ShortString) -> Result<Self> {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
        loop {
            let channel = session.channel().await?;
            match channel.queue_declare(queue.clone(), options, arguments.clone()).await {
                Ok(_) => return Ok(Self { channel, queue }),
                Err(cause) if soft_error(&cause) == Some(AMQPSoftError::RESOURCELOCKED) => {
                    sleep(backoff.next_delay()).await;
                }
                Err(cause) => return Err(from_lapin(cause, "register")),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = channel.queue_delete(queue, QueueDeleteOptions::default()).await {
                    tracing::debug!(%error, "a turn lasts until it expires");
                }
            });
        }
    }
}
