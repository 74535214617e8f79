use std::sync::{Arc, atomic::Ordering};

use async_nats::Subject;
use purista_core::{
    Capabilities, Capability, Command, Filter, Message, MessageType, Result, Sharing, Subscription,
    adapter::{
        ACKNOWLEDGING, CONNECTION, DeadLetter, EngineConfig, Intake, Link, Live, Publish, ROUTING, Transport,
    },
};
use tokio::time::Instant;

use crate::{
    address::consumer_name,
    codec::{DEAD_LETTER, refusal_headers, timeout_headers},
    config::Config,
    connection::Connection,
    consumer::{NatsConsumer, Part},
    consuming::Consuming,
    core_consumer::CoreConsumerSpec,
    durable::DurableConsumer,
    jetstream::Publication,
    pull_consumer::PullConsumer,
    streams::{StreamKind, check_commands, ensure, ensure_with_limits},
};

/// The name of the adapter.
pub(crate) const NAME: &str = "nats";

/// What core NATS gives.
const CORE: Capabilities = ROUTING.with_all(CONNECTION).with(Capability::WireCompatible);

/// What JetStream adds. It cannot tell whether a subscription wants what it keeps.
const JETSTREAM: Capabilities = CORE
    .with_all(ACKNOWLEDGING)
    .with(Capability::DurableSubscriptions)
    .with(Capability::SurvivesBrokerKill)
    .with(Capability::GroupHandover)
    .with(Capability::RedeliveryCount)
    .with(Capability::DeadLetter)
    .with(Capability::LongHandlers);

/// The payload that a server takes by default.
const DEFAULT_MAX_MESSAGE: usize = 1 << 20;

/// What an envelope, or what a dead letter tells beside it, needs beside the payload at the most.
const ENVELOPE: usize = 48 * 1_024;

/// The mapping onto NATS.
#[derive(Debug)]
pub(crate) struct NatsTransport {
    config: Config,
    live: Live<Connection>,
}

impl NatsTransport {
    pub(crate) fn new(config: Config, engine: &EngineConfig) -> Result<Self> {
        config.validate()?;
        let config = Config { operation_timeout: engine.operation_timeout, ..config };
        Ok(Self { config, live: Live::new(NAME) })
    }

    async fn open_core(
        &self,
        connection: &Arc<Connection>,
        spec: CoreConsumerSpec,
        intake: Intake<Self>,
        consuming: &Arc<Consuming>,
    ) -> Result<Part> {
        spec.consume(Arc::clone(connection), intake, consuming.part()).await.map(Part::Core)
    }

    /// Creates the stream of notes before the first one is written: a shutdown has no time for it. Without it, deliveries
    /// are counted.
    async fn prepare_releases(&self, connection: &Connection) {
        if connection.releases_are_ensured.load(Ordering::Acquire) {
            return;
        }
        match ensure(connection, StreamKind::Releases, self.until()).await {
            Ok(()) => connection.releases_are_ensured.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "attempts cannot be counted across instances"),
        }
    }

    /// Returns until when an operation of the engine may be tried again: a bit less than the engine waits, so that the
    /// error says why.
    fn until(&self) -> Instant {
        Instant::now() + self.config.operation_timeout.mul_f64(0.9)
    }
}

impl Transport for NatsTransport {
    type Consumer = NatsConsumer;
    /// The caller's inbox.
    type ReplyTo = Subject;

    const NAME: &'static str = NAME;

    fn capabilities(&self) -> Capabilities {
        let (has_jetstream, max_message, keeps_commands) = self.live.with(|connection| match connection {
            None => (self.config.jetstream.is_some(), DEFAULT_MAX_MESSAGE, false),
            Some(connection) => {
                let keeps_commands = connection.keeps_commands.load(Ordering::Acquire);
                (connection.jetstream().is_some(), connection.max_message(), keeps_commands)
            }
        });
        let given = if has_jetstream { JETSTREAM } else { CORE.with(Capability::MustRoute) };
        let given = if keeps_commands { given.without(Capability::NoResponder) } else { given };
        let room = max_message - ENVELOPE.min(max_message / 2);
        given.with_max_payload(room.min(self.config.connection.max_payload))
    }

    async fn connect(&self, link: Link) -> Result<()> {
        let until = self.until();
        let connection = Connection::open(&self.config, link, until).await?;
        ensure_with_limits(&connection, StreamKind::Events, until).await?;
        check_commands(&connection, until).await?;
        self.live.set(connection);
        Ok(())
    }

    async fn publish(&self, message: Arc<Message>, publish: Publish) -> Result<()> {
        let connection = self.live.connection()?;
        let subject = Subject::from(connection.names.subject(&message));
        let payload = message.encode();
        if connection.jetstream().is_none() {
            // Boxed, so that an emit to JetStream does not carry room for it.
            return Box::pin(connection.publish_at_most_once(subject, payload, publish.must_route)).await;
        }
        let id = message.id.to_string();
        let publication = Publication {
            stream: StreamKind::Events,
            subject,
            id,
            header: None,
            payload,
            waits_for_room: true,
        };
        connection.publish_kept(&publication, publish.deadline).await
    }

    async fn request(&self, command: Arc<Message>, deadline: Instant) -> Result<()> {
        let connection = self.live.connection()?;
        connection.ready().await?;
        let subject = Subject::from(connection.names.subject(&command));
        let correlation_id = command.correlation_id.as_ref();
        let inbox = correlation_id.map(|id| Subject::from(connection.inbox_of(id)));
        connection.publish(subject, inbox, Some(timeout_headers(deadline)), command.encode()).await
    }

    async fn respond(&self, response: Arc<Message>, reply_to: Subject) -> Result<()> {
        let connection = self.live.connection()?;
        let payload = response.encode();
        connection.publish(reply_to, None, None, payload.clone()).await?;
        // For subscriptions on responses.
        let subject = Subject::from(connection.names.subject(&response));
        if response.event_name.is_none() || connection.jetstream().is_none() {
            return connection.publish(subject, None, None, payload).await;
        }
        // It is an event like any other.
        let publication = Publication {
            stream: StreamKind::EventsAndResponses,
            subject,
            id: format!("{}-response", response.id),
            header: None,
            payload,
            waits_for_room: true,
        };
        connection.publish_kept(&publication, self.until()).await
    }

    async fn refuse(&self, refusal: Arc<Message>, reply_to: Subject) -> Result<()> {
        self.live.connection()?.publish(reply_to, None, Some(refusal_headers()), refusal.encode()).await
    }

    async fn consume_command(&self, command: &Command, intake: Intake<Self>) -> Result<NatsConsumer> {
        let connection = self.live.connection()?;
        if command.options.success_event.is_some() {
            ensure_with_limits(&connection, StreamKind::EventsAndResponses, self.until()).await?;
        }
        let spec = CoreConsumerSpec {
            command: Some(command.address.clone()),
            subject: connection.names.command_pattern(&command.address),
            queue_group: Some(connection.names.queue_group(&command.address)),
            hand_over: connection.names.command_members(&command.address),
            pending_messages: self.config.pending_messages,
            pending_bytes: self.config.pending_bytes,
        };
        let consuming = Consuming::new(intake.clone());
        let parts = vec![self.open_core(&connection, spec, intake, &consuming).await?];
        Ok(NatsConsumer { parts, consuming: Arc::downgrade(&consuming) })
    }

    async fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> Result<NatsConsumer> {
        let (connection, granted) = (self.live.connection()?, intake.granted());
        let instance_id = connection.link().instance_id().to_string();
        let own_instance = (granted.sharing == Sharing::Broadcast).then_some(instance_id.as_str());
        let name = consumer_name(&subscription.subscriber, own_instance);
        let filter = &subscription.filter;
        let core = |filter: &Filter| CoreConsumerSpec {
            command: None,
            subject: connection.names.pattern(filter),
            queue_group: (granted.sharing == Sharing::Shared).then(|| name.clone()),
            hand_over: connection.names.of_consumer("core_member", &name),
            pending_messages: self.config.pending_messages,
            pending_bytes: self.config.pending_bytes,
        };
        let consuming = Consuming::new(intake.clone());
        let Some(jetstream) = connection.jetstream() else {
            let mut spec = core(filter);
            // As the original names it, which has its instances in it. One that listens to all commands would take those
            // away from a command of the same name.
            if filter.event_name.is_some() || filter.message_type.is_some_and(|it| it != MessageType::Command)
            {
                spec.queue_group =
                    spec.queue_group.map(|_| connection.names.queue_group(&subscription.subscriber));
            }
            let parts = vec![self.open_core(&connection, spec, intake, &consuming).await?];
            return Ok(NatsConsumer { parts, consuming: Arc::downgrade(&consuming) });
        };
        let mut parts = Vec::new();
        if let Some(stream) = stream_of(filter, granted.durable) {
            self.prepare_releases(&connection).await;
            let consumer = DurableConsumer::new(
                name.clone(),
                stream,
                connection.names.pattern(filter),
                filter,
                jetstream.ack_wait(),
                granted.durable,
            );
            let (connection, intake) = (Arc::clone(&connection), intake.clone());
            let consumer =
                PullConsumer::open(connection, consumer, intake, consuming.part(), self.until()).await?;
            parts.push(Part::Pull(Box::new(consumer)));
        }
        if sees_commands_live(filter, granted.durable) {
            let commands = filter.clone().with_message_type(MessageType::Command);
            parts.push(self.open_core(&connection, core(&commands), intake, &consuming).await?);
        }
        Ok(NatsConsumer { parts, consuming: Arc::downgrade(&consuming) })
    }

    async fn keep_dead_letter(&self, letter: DeadLetter) -> Result<()> {
        let connection = self.live.connection()?;
        if !connection.letters_are_ensured.load(Ordering::Acquire) {
            ensure_with_limits(&connection, StreamKind::DeadLetters, self.until()).await?;
            connection.letters_are_ensured.store(true, Ordering::Release);
        }
        let name = consumer_name(&letter.subscriber, None);
        let publication = Publication {
            stream: StreamKind::DeadLetters,
            subject: connection.names.dead_letter(&letter.subscriber).into(),
            id: format!("{}-{name}", letter.message_id),
            header: Some((DEAD_LETTER, letter.metadata())),
            payload: letter.original,
            waits_for_room: false,
        };
        connection.publish_kept(&publication, self.until()).await
    }

    async fn disconnect(&self) -> Result<()> {
        match self.live.take() {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }
}

/// Returns the stream that has what a filter matches, if any has.
const fn stream_of(filter: &Filter, is_durable: bool) -> Option<StreamKind> {
    match filter.message_type {
        Some(MessageType::Command) if is_durable => Some(StreamKind::Commands),
        Some(MessageType::Command) => None,
        None
        | Some(
            MessageType::CommandSuccessResponse | MessageType::CommandErrorResponse | MessageType::Stream,
        ) => Some(StreamKind::EventsAndResponses),
        Some(_) => Some(StreamKind::Events),
    }
}

/// Returns whether a subscription sees commands as they pass by. Only who asks for commands has them kept, as the server
/// cannot tell any more then that nobody serves one.
const fn sees_commands_live(filter: &Filter, is_durable: bool) -> bool {
    match filter.message_type {
        None => true,
        Some(MessageType::Command) => !is_durable,
        Some(_) => false,
    }
}
