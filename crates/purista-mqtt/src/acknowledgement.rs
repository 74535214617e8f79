use std::sync::Arc;

use purista_core::{
    Result,
    adapter::{Acknowledgement, async_trait},
};
use rumqttc::Publish;

use crate::{error::lost, hand_over::HandOver, session::Arrival};

/// Acknowledges one message, on the connection that it came over.
#[derive(Debug)]
pub(crate) struct MqttAcknowledgement {
    arrival: Arrival,
    hand_over: Option<Arc<HandOver>>,
    /// Whether the broker delivers it again on the next connection.
    comes_again: bool,
}

impl MqttAcknowledgement {
    pub(crate) const fn new(arrival: Arrival, hand_over: Option<Arc<HandOver>>, comes_again: bool) -> Self {
        Self { arrival, hand_over, comes_again }
    }

    pub(crate) const fn publish(&self) -> &Publish {
        &self.arrival.publish
    }

    pub(crate) fn into_arrival(self) -> Arrival {
        self.arrival
    }

    async fn acknowledge(&self) -> Result<()> {
        match self.arrival.client.ack(&self.arrival.publish).await {
            Err(_) if self.comes_again => Err(lost("acknowledge")),
            // What is lost with its connection cannot come again.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Acknowledgement for MqttAcknowledgement {
    async fn accept(self: Box<Self>) -> Result<()> {
        self.acknowledge().await
    }

    /// Hands it over to another instance. If there is none, it stays unacknowledged, and comes again if the session does.
    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        let Some(hand_over) = &self.hand_over else { return Ok(()) };
        match hand_over.give(&self.arrival.publish, failed_attempts).await? {
            true => self.acknowledge().await,
            false => Ok(()),
        }
    }
}
