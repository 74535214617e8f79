use std::sync::Arc;

use purista_core::{
    Result,
    adapter::{Acknowledgement, async_trait},
};

use crate::{
    connection::Connection,
    hand_over::HandOver,
    window::{Held, Window},
};

/// Acknowledges one message, on the connection that it came over.
#[derive(Debug)]
pub(crate) struct MqttAcknowledgement {
    pub(crate) held: Arc<Held>,
    pub(crate) window: Window,
    pub(crate) connection: Arc<Connection>,
    pub(crate) hand_over: Option<Arc<HandOver>>,
    /// Whether the broker delivers it again on the next connection.
    pub(crate) comes_again: bool,
}

impl MqttAcknowledgement {
    async fn settle(&self) -> Result<()> {
        match self.window.settle(&self.held, &self.connection).await {
            // What is lost with its connection cannot come again.
            Err(_) if !self.comes_again => Ok(()),
            settled => settled,
        }
    }
}

#[async_trait]
impl Acknowledgement for MqttAcknowledgement {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.settle().await
    }

    /// Hands it over to another instance. If there is none, it stays unacknowledged, and comes again if the session does.
    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        let given = match &self.hand_over {
            Some(hand_over) => hand_over.give_to_takers(&self.held.arrival.publish, failed_attempts).await?,
            None => false,
        };
        match given {
            true => self.settle().await,
            false => self.window.note_failures(&self.held, failed_attempts, &self.connection).await,
        }
    }
}
