use std::sync::Arc;

use bytes::Bytes;
use purista_core::{Result, ServiceAddress};
use rumqttc::Publish;

use crate::{
    address::{name, shared},
    codec::{passed_on, probe},
    connection::Connection,
};

/// The way on which the instances of a subscriber hand messages over to each other, as the broker does not.
#[derive(Debug)]
pub(crate) struct HandOver {
    connection: Arc<Connection>,
    topic: String,
    /// What an instance listens to that takes messages over.
    pub(crate) filter: String,
}

impl HandOver {
    pub(crate) fn new(connection: Arc<Connection>, subscriber: &ServiceAddress) -> Self {
        let topic = connection.names.hand_over(subscriber);
        let filter = shared(&name(subscriber, None), &topic);
        Self { connection, topic, filter }
    }

    /// Gives a message to another instance, with how often it has failed; returns whether there is one. The broker has it
    /// then.
    pub(crate) async fn give(&self, publish: &Publish, failed_attempts: u32) -> Result<bool> {
        let options = passed_on(publish, failed_attempts);
        self.connection.publish_once(self.topic.clone(), publish.payload.clone(), options, "hand over").await
    }

    /// Returns whether another instance is there.
    pub(crate) async fn has_taker(&self) -> Result<bool> {
        self.connection.publish_once(self.topic.clone(), Bytes::new(), probe(), "hand over").await
    }

    /// Returns whether a message only asks whether we are there.
    pub(crate) fn is_probe(&self, publish: &Publish) -> bool {
        publish.payload.is_empty() && publish.topic == self.topic
    }
}
