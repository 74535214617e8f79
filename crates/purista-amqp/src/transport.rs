use std::{sync::Arc, time::Duration};

use lapin::types::ShortString;
use purista_core::{
    Capabilities, Capability, Command, Error, ErrorKind, Id, Message, Result, Subscription,
    adapter::{
        ACKNOWLEDGING, Backoff, CONNECTION, DeadLetter, DeadLetterReader, EngineConfig, Intake, Link, Live,
        Publish, ROUTING, ReadFrom, Transport,
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    address::MAX_SHORT_STRING,
    codec::{Reply, dead_letter, redriven, size_of},
    config::{Config, QueueType},
    connection::Connection,
    consumer::AmqpConsumer,
    error::error,
    letters::Reader,
    outlet::Way,
    publisher::{Confirm, Post, Returned},
    queue_consumer::QueueConsumer,
    topology::Route,
};

/// The name of the adapter.
pub(crate) const NAME: &str = "amqp";

/// What both topologies give.
const GIVEN: Capabilities = ROUTING
    .with_all(ACKNOWLEDGING)
    .with_all(CONNECTION)
    .with(Capability::DurableSubscriptions)
    .with(Capability::SurvivesBrokerKill)
    .with(Capability::GroupHandover)
    .with(Capability::DeadLetter)
    .with(Capability::DeadLetterInspection)
    .with(Capability::MustRoute)
    .with(Capability::AtLeastOnceCommands);

/// How long a response waits for the broker to take it.
const RESPONSE_PATIENCE: Duration = Duration::from_secs(10);

/// The mapping onto RabbitMQ.
#[derive(Debug)]
pub(crate) struct AmqpTransport {
    config: Config,
    live: Live<Connection>,
}

impl AmqpTransport {
    pub(crate) fn new(config: Config, engine: &EngineConfig) -> Result<Self> {
        config.validate()?;
        if engine.max_identity_len > MAX_SHORT_STRING {
            return Err(Error::invalid_config("AMQP has no names and ids of more than 255 bytes"));
        }
        Ok(Self { config, live: Live::new(NAME) })
    }

    async fn send_response(&self, response: &Message, reply: &Reply) -> Result<()> {
        let (connection, deadline) = (self.live.connection()?, Instant::now() + RESPONSE_PATIENCE);
        let send = async |response| connection.publish_until_taken(response, reply, false, deadline).await;
        match send(response).await {
            // Only now it is known that the broker takes less than we do; the caller must not wait for it.
            Err(error) if matches!(error.kind(), ErrorKind::PayloadTooLarge { .. }) => {
                tracing::warn!(%error, "an answer is too large");
                send(&response.too_large()).await
            }
            sent => sent,
        }
    }
}

impl Transport for AmqpTransport {
    type Consumer = AmqpConsumer;
    /// What the command's properties say.
    type ReplyTo = Reply;

    const NAME: &'static str = NAME;

    fn capabilities(&self) -> Capabilities {
        let given = GIVEN.with_max_payload(self.config.connection.max_payload);
        match (self.config.is_typescript, self.config.queue_type) {
            (true, _) => given.with(Capability::WireCompatible).with(Capability::NativeHeaders),
            (false, QueueType::Classic) => given.with(Capability::DurableCommands),
            (false, QueueType::Quorum) => {
                given.with(Capability::DurableCommands).with(Capability::RedeliveryCount)
            }
        }
    }

    async fn connect(&self, link: Link) -> Result<()> {
        self.live.set(Connection::open(&self.config, link).await?);
        Ok(())
    }

    async fn publish(&self, message: Arc<Message>, publish: Publish) -> Result<()> {
        let Publish { deadline, must_route, .. } = publish;
        let connection = self.live.connection()?;
        connection.publish_until_taken(&message, &Reply::default(), must_route, deadline).await
    }

    async fn request(&self, command: Arc<Message>, deadline: Instant) -> Result<()> {
        let connection = self.live.connection()?;
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));
        loop {
            let session = connection.can_send_by(deadline, "invoke").await?;
            let to = Some(connection.reply_queue());
            let reply = Reply { to, deadline: Some(deadline), refuses: false };
            let route = connection.topology.route(&command, &reply);
            let (own, link) = (command.correlation_id.clone(), connection.link().clone());
            // Another call may hear of it here alone, even if this one is answered already.
            let settle = move |confirm| match confirm {
                Confirm::Returned(Returned { correlation_id: Some(returned), is_taken })
                    if Some(&returned) != own.as_ref() =>
                {
                    link.fail_call(&returned, error(ErrorKind::NoHandler, "invoke"));
                    if is_taken { Confirm::Taken } else { Confirm::Refused }
                }
                confirm => confirm,
            };
            let post = Post { route, payload: command.encode(), mandatory: true };
            match session.outlet.publish_and(Way::Commands, post, settle).await? {
                Confirm::Taken => return Ok(()),
                Confirm::Refused => {
                    return Err(
                        error(ErrorKind::Backpressure, "invoke").with_context("the queue has no room")
                    );
                }
                Confirm::Returned(_) => return Err(error(ErrorKind::NoHandler, "invoke")),
                // Nobody got it: it goes out when the exchange is back.
                Confirm::NoExchange => connection.look.notify_one(),
            }
            sleep(backoff.next_delay()).await;
        }
    }

    async fn respond(&self, response: Arc<Message>, reply_to: Reply) -> Result<()> {
        self.send_response(&response, &Reply { deadline: None, ..reply_to }).await
    }

    async fn refuse(&self, refusal: Arc<Message>, reply_to: Reply) -> Result<()> {
        self.send_response(&refusal, &Reply { deadline: None, refuses: true, ..reply_to }).await
    }

    async fn consume_command(&self, command: &Command, intake: Intake<Self>) -> Result<AmqpConsumer> {
        let connection = self.live.connection()?;
        let plans = connection.topology.command(command, &intake.granted(), instance_id(&connection));
        QueueConsumer::open(connection, plans, intake).await.map(AmqpConsumer)
    }

    async fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> Result<AmqpConsumer> {
        let connection = self.live.connection()?;
        let granted = intake.granted();
        let plan = connection.topology.subscription(subscription, &granted, instance_id(&connection));
        if granted.dead_letter || granted.durable {
            connection.declare_dead_letters(&connection.session()).await?;
        }
        QueueConsumer::open(connection, vec![plan], intake).await.map(AmqpConsumer)
    }

    async fn keep_dead_letter(&self, mut letter: DeadLetter) -> Result<()> {
        let connection = self.live.connection()?;
        let max = connection.session().outlet.channels().max_properties();
        let id = Id::random();
        let properties =
            |letter: &DeadLetter| dead_letter(&letter.metadata()).with_message_id(id.as_str().into());
        while size_of(&properties(&letter)) > max && !letter.reason.is_empty() {
            letter.reason.truncate(letter.reason.floor_char_boundary(letter.reason.len() / 2));
        }
        let route = Route {
            exchange: ShortString::default(),
            routing_key: connection.dead_letters.name.clone(),
            properties: properties(&letter),
        };
        if connection.publish_to_queue(route.clone(), letter.original.clone()).await? {
            return Ok(());
        }
        // Somebody has deleted the queue.
        connection.declare_dead_letters(&connection.session()).await?;
        match connection.publish_to_queue(route, letter.original).await? {
            true => Ok(()),
            false => Err(error(ErrorKind::Unroutable, "dead letter")),
        }
    }

    async fn read_dead_letters(&self, from: ReadFrom) -> Result<Box<dyn DeadLetterReader>> {
        Ok(Box::new(Reader::open(self.live.connection()?, from).await?))
    }

    async fn redeliver(&self, letter: DeadLetter) -> Result<()> {
        let connection = self.live.connection()?;
        let message = Message::decode(letter.original.clone())?;
        let Route { properties, .. } = connection.topology.route(&message, &Reply::default());
        let queue = connection.topology.queue_of(&letter.subscriber, letter.instance_id.as_ref());
        let route = Route {
            exchange: ShortString::default(),
            routing_key: queue.clone(),
            properties: redriven(&properties, letter.redrives),
        };
        match connection.publish_to_queue(route, letter.original).await? {
            true => Ok(()),
            false => {
                Err(error(ErrorKind::Unroutable, "redrive")
                    .with_context(format!("there is no queue {queue}")))
            }
        }
    }

    async fn disconnect(&self) -> Result<()> {
        if let Some(connection) = self.live.take() {
            connection.close().await;
        }
        Ok(())
    }
}

fn instance_id(connection: &Connection) -> &Id {
    connection.link().instance_id()
}
