use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use purista_core::{
    Result,
    adapter::{Acknowledgement, async_trait},
};

use crate::{error::lost, hand_over::HandOver, session::Arrival};

/// How many messages of a session came and are neither acknowledged nor handed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsettled(Arc<AtomicUsize>);

impl Unsettled {
    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Acknowledges one message, on the connection that it came over.
#[derive(Debug)]
pub(crate) struct MqttAcknowledgement {
    arrival: Arrival,
    hand_over: Option<Arc<HandOver>>,
    unsettled: Unsettled,
    /// Whether the broker delivers it again on the next connection.
    comes_again: bool,
}

impl MqttAcknowledgement {
    pub(crate) fn new(
        arrival: Arrival,
        hand_over: Option<Arc<HandOver>>,
        unsettled: &Unsettled,
        comes_again: bool,
    ) -> Self {
        unsettled.0.fetch_add(1, Ordering::AcqRel);
        Self { arrival, hand_over, unsettled: unsettled.clone(), comes_again }
    }

    async fn acknowledge(&self) -> Result<()> {
        match self.arrival.client.ack(&self.arrival.publish).await {
            Ok(()) => {
                self.unsettled.0.fetch_sub(1, Ordering::AcqRel);
                Ok(())
            }
            Err(_) if self.comes_again => Err(lost("acknowledge")),
            // What is lost with its connection cannot come again.
            Err(_) => Ok(()),
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
        match hand_over.give_to_takers(&self.arrival.publish, failed_attempts).await? {
            true => self.acknowledge().await,
            false => Ok(()),
        }
    }
}
