use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use purista_core::{Result, ServiceAddress};
use rumqttc::Publish;

use crate::{codec::passed_on, connection::Connection};

/// The way on which the instances of a subscriber hand messages over to each other, as the broker does not.
#[derive(Debug)]
pub(crate) struct HandOver {
    connection: Arc<Connection>,
    topic: String,
    /// What an instance listens to that takes messages over.
    pub(crate) filter: String,
    /// Where instances are asked whether they are there.
    pub(crate) presence: String,
    has_takers: AtomicBool,
}

impl HandOver {
    pub(crate) fn new(connection: Arc<Connection>, subscriber: &ServiceAddress) -> Self {
        let topic = connection.names.hand_over(subscriber);
        let filter = connection.names.shared_by(subscriber, &topic);
        let presence = connection.names.presence(subscriber);
        Self { connection, topic, filter, presence, has_takers: AtomicBool::new(false) }
    }

    /// Looks whether another instance is there, once this one takes nothing over and does not answer any more.
    pub(crate) async fn find_takers(&self) -> Result<bool> {
        let has_takers = self.connection.ask(self.presence.clone(), None).await?.is_some();
        self.has_takers.store(has_takers, Ordering::Release);
        Ok(has_takers)
    }

    /// Gives a message to another instance, with how often it has failed; returns whether there is one. The broker has it
    /// then.
    pub(crate) async fn give(&self, publish: &Publish, failed_attempts: u32) -> Result<bool> {
        let options = passed_on(publish, failed_attempts);
        self.connection
            .session()
            .publish_once(self.topic.clone(), publish.payload.clone(), options, "hand over")
            .await
    }

    /// Gives a message to another instance if one was found.
    pub(crate) async fn give_to_takers(&self, publish: &Publish, failed_attempts: u32) -> Result<bool> {
        Ok(self.has_takers.load(Ordering::Acquire) && self.give(publish, failed_attempts).await?)
    }
}
