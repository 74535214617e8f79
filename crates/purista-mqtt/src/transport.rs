use std::{sync::Arc, time::Duration};

use purista_core::{
    Capabilities, Capability, Command, ErrorKind, Message, Result, Subscription,
    adapter::{
        ACKNOWLEDGING, CONNECTION, DeadLetter, EngineConfig, Intake, Link, Live, Publish, ROUTING, Transport,
    },
};
use rumqttc::PubAckReason;
use tokio::time::Instant;

use crate::{
    codec::{self, Reply},
    command_consumer::CommandConsumer,
    config::{Config, ENVELOPE},
    connection::Connection,
    consumer::MqttConsumer,
    error::{error, refused},
    subscription_consumer::SubscriptionConsumer,
};

/// The name of the adapter.
pub(crate) const NAME: &str = "mqtt";

/// What MQTT 5 gives.
const GIVEN: Capabilities = ROUTING
    .with_all(ACKNOWLEDGING)
    .with_all(CONNECTION)
    .with(Capability::LongHandlers)
    .with(Capability::MustRoute)
    .with(Capability::WireCompatible)
    .with_expiry_granularity(Duration::from_secs(1));

/// The mapping onto MQTT.
#[derive(Debug)]
pub(crate) struct MqttTransport {
    config: Config,
    /// Whether this instance comes back under the same id.
    has_stable_id: bool,
    live: Live<Connection>,
}

impl MqttTransport {
    pub(crate) fn new(config: Config, engine: &EngineConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, has_stable_id: engine.instance_id.is_some(), live: Live::new(NAME) })
    }
}

impl Transport for MqttTransport {
    type Consumer = MqttConsumer;
    type ReplyTo = Reply;

    const NAME: &'static str = NAME;

    fn capabilities(&self) -> Capabilities {
        let limits = self.live.with(|connection| connection.map(|connection| connection.session().limits));
        let (max_packet, retains) =
            limits.map_or((usize::MAX, true), |limits| (limits.max_packet, limits.retains));
        let room = max_packet - ENVELOPE.min(max_packet / 2);
        let mut given = GIVEN.with_max_payload(room.min(self.config.connection.max_payload));
        if retains {
            given = given.with(Capability::DeadLetter);
            // What a session listens to is kept as well.
            if self.config.session_expiry.is_some() && self.has_stable_id {
                given = given.with(Capability::DurableSubscriptions);
            }
        }
        given
    }

    async fn connect(&self, link: Link) -> Result<()> {
        self.live.set(Connection::open(&self.config, link).await?);
        Ok(())
    }

    async fn publish(&self, message: Arc<Message>, publish: Publish) -> Result<()> {
        let connection = self.live.connection()?;
        let somebody_gets_it = connection.publish_until_taken(&message, codec::event, "emit").await?;
        match somebody_gets_it || !publish.must_route {
            true => Ok(()),
            false => Err(error(ErrorKind::Unroutable, "emit")),
        }
    }

    async fn request(&self, command: Arc<Message>, deadline: Instant) -> Result<()> {
        let connection = self.live.connection()?;
        let session = connection.can_send().await?;
        let (topic, options) = (connection.names.topic(&command), codec::command(&command, deadline));
        match session.publish(topic, command.encode(), options).await {
            Ok(PubAckReason::Success) => Ok(()),
            Ok(PubAckReason::NoMatchingSubscribers) => Err(error(ErrorKind::NoHandler, "invoke")),
            Ok(reason) => Err(refused(reason, "invoke")),
            Err(failed) => Err(failed.into_error("invoke")),
        }
    }

    async fn respond(&self, response: Arc<Message>, reply: Reply) -> Result<()> {
        let connection = self.live.connection()?;
        if response.event_name.is_some() {
            // It is an event like any other.
            let sent = connection.publish_until_taken(&response, || codec::response(&reply), "respond").await;
            match sent {
                Err(error) if matches!(error.kind(), ErrorKind::PayloadTooLarge { .. }) => {}
                sent => return sent.map(drop),
            }
        }
        connection.answer_call(&response, &reply).await
    }

    async fn refuse(&self, refusal: Arc<Message>, reply: Reply) -> Result<()> {
        let connection = self.live.connection()?;
        let (topic, options) = (connection.names.topic(&refusal), codec::refusal(reply));
        let sent = connection.session().send(topic, refusal.encode(), options).await;
        sent.map_err(|failed| failed.into_error("respond"))
    }

    async fn consume_command(&self, command: &Command, intake: Intake<Self>) -> Result<MqttConsumer> {
        CommandConsumer::open(self.live.connection()?, &command.address, intake)
            .await
            .map(MqttConsumer::Command)
    }

    async fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> Result<MqttConsumer> {
        let consumer = SubscriptionConsumer::open(self.live.connection()?, subscription, intake);
        consumer.await.map(MqttConsumer::Subscription)
    }

    /// Keeps it as a retained message, which waits for nobody.
    async fn keep_dead_letter(&self, mut letter: DeadLetter) -> Result<()> {
        let connection = self.live.connection()?;
        connection.check_up("dead letter")?;
        let topic = connection.names.dead_letter(&letter.subscriber, &letter.message_id);
        let keep = async |letter: &DeadLetter| {
            let headers = codec::dead_letter(&letter.metadata());
            let (session, topic) = (connection.session(), topic.clone());
            session.publish_once(topic, letter.original.clone(), headers, "dead letter").await.map(drop)
        };
        match keep(&letter).await {
            // A long reason must not keep a message from being kept that came through the same broker.
            Err(error) if matches!(error.kind(), ErrorKind::PayloadTooLarge { .. }) => {
                letter.reason.clear();
                keep(&letter).await
            }
            kept => kept,
        }
    }

    async fn disconnect(&self) -> Result<()> {
        if let Some(connection) = self.live.take() {
            connection.close().await;
        }
        Ok(())
    }
}
