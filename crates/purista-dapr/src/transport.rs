use std::{iter, sync::Arc};

use axum::http::StatusCode;
use bytes::Bytes;
use purista_cloudevents::Reply;
use purista_core::{
    Capabilities, Command, Error, ErrorKind, Message, Result, Subscription,
    adapter::{DeadLetter, EngineConfig, Intake, Link, Live, Publish, Transport},
};
use tokio::time::Instant;

use crate::{
    abandoned,
    address::{command_name, command_path},
    cloud_event, codec, component,
    config::Config,
    connection::Connection,
    consumer::{DaprConsumer, Served, Subscribed},
    error::{Refusal, error},
    sidecar::{Failure, Sidecar},
};

/// The name of the adapter.
pub(crate) const NAME: &str = "dapr";

/// The mapping onto Dapr.
#[derive(Debug)]
pub(crate) struct DaprTransport {
    config: Config,
    sidecar: Sidecar,
    live: Live<Connection>,
}

impl DaprTransport {
    pub(crate) fn new(config: Config, _engine: &EngineConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { sidecar: Sidecar::new(&config)?, config, live: Live::new(NAME) })
    }

    /// Reads what became of a call.
    async fn answer(
        &self,
        command: &Message,
        sent: usize,
        status: StatusCode,
        body: Bytes,
    ) -> Result<Message> {
        if status.is_success() {
            return codec::answer(command, status, body);
        }
        let refusal = Refusal::read(status, &body);
        // An app that has no such path says the same as a sidecar without this API.
        if status == StatusCode::NOT_FOUND && !refusal.is_of_sidecar() {
            let is_there = !refusal.is_of_api() || self.sidecar.can_call().await;
            if is_there {
                return Err(error(ErrorKind::NoHandler, "invoke"));
            }
        }
        match status {
            StatusCode::NOT_FOUND
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => {
                Err(refusal.into_error("invoke", sent, self.config.max_payload))
            }
            _ if refusal.is_of_sidecar() => Err(refusal.into_error("invoke", sent, self.config.max_payload)),
            _ => codec::failed(command, status),
        }
    }
}

impl Transport for DaprTransport {
    type Consumer = DaprConsumer;
    type ReplyTo = Reply;

    const NAME: &'static str = NAME;

    fn capabilities(&self) -> Capabilities {
        let given = self.live.with(|connection| {
            let kind = match connection {
                Some(connection) => Some(connection.component_type.as_deref().unwrap_or_default()),
                None => self.config.component_type.as_deref(),
            };
            component::capabilities(kind, &self.config.component_gives)
        });
        given.with_max_payload(self.config.max_payload)
    }

    async fn connect(&self, link: Link) -> Result<()> {
        self.live.set(Connection::open(&self.config, &self.sidecar, link).await?);
        Ok(())
    }

    async fn publish(&self, message: Arc<Message>, publish: Publish) -> Result<()> {
        let connection = self.live.connection()?;
        let has_topic = message.event_name.is_some() || self.config.all_messages_topic.is_some();
        if !has_topic && !message.message_type().is_info() {
            let context = "a message without the name of an event needs the topic for all messages";
            return Err(error(ErrorKind::InvalidConfig, "emit").with_context(context));
        }
        connection.publish(&message, "emit", Some(publish.deadline)).await
    }

    async fn request(&self, command: Arc<Message>, deadline: Instant) -> Result<()> {
        let connection = self.live.connection()?;
        let no_receiver =
            || error(ErrorKind::InvalidMessage, "invoke").with_context("a command without receiver");
        let address = &command.receiver.as_ref().ok_or_else(no_receiver)?.address;
        let app_id = self.config.app_ids.find(address);
        let body = command.encode();
        connection.ready().await?;
        connection.copy_for_all(&command, deadline);
        let traceparent = command.trace_context.traceparent().map(|traceparent| ("traceparent", traceparent));
        let headers = iter::once(codec::time_limit(deadline)).chain(traceparent);
        let sent = body.len();
        let headers: Vec<_> = headers.collect();
        let (caller, path) = (Arc::clone(&connection), command_path(address));
        let call = async move { caller.sidecar.invoke(&app_id, &path, body, headers).await };
        let called = abandoned::to_its_end(call).await;
        let called = called.unwrap_or_else(|| Err(Failure::Lost("the call ended".to_owned())));
        let (status, body) = called.map_err(|failure| {
            if matches!(failure, Failure::Lost(_)) {
                connection.suspect();
            }
            failure.into_error("invoke")
        })?;
        // The engine's own clock tells the caller when.
        if status == StatusCode::GATEWAY_TIMEOUT {
            return Ok(());
        }
        let answer = self.answer(&command, sent, status, body).await;
        let response = answer.inspect_err(|error| note(&connection, error))?;
        if response.correlation_id != command.correlation_id {
            let other =
                error(ErrorKind::InvalidMessage, "invoke").with_context("an answer to another command");
            note(&connection, &other);
            return Err(other);
        }
        connection.link().respond(Arc::new(response));
        Ok(())
    }

    async fn respond(&self, response: Arc<Message>, reply: Reply) -> Result<()> {
        reply.respond(&response);
        self.live.connection()?.publish(&response, "respond", None).await
    }

    async fn refuse(&self, _refusal: Arc<Message>, reply: Reply) -> Result<()> {
        reply.not_served();
        Ok(())
    }

    async fn consume_command(&self, command: &Command, intake: Intake<Self>) -> Result<DaprConsumer> {
        let connection = self.live.connection()?;
        let app_id = self.config.app_ids.find(&command.address);
        if app_id != connection.app_id {
            let context = format!("callers look for it at {app_id}, and this is {}", connection.app_id);
            return Err(error(ErrorKind::InvalidConfig, "register").with_context(context));
        }
        let served = Served::new(command.address.clone(), intake);
        connection.routes.serve(command_name(&command.address), Arc::clone(&served));
        Ok(DaprConsumer::Command(served))
    }

    async fn consume_subscription(
        &self,
        subscription: &Subscription,
        intake: Intake<Self>,
    ) -> Result<DaprConsumer> {
        let connection = self.live.connection()?;
        let fails = |context: String| Err(error(ErrorKind::InvalidConfig, "register").with_context(context));
        if connection.component_type.is_none() {
            return fails(format!("the sidecar has no component {}", self.config.pubsub_name));
        }
        let event = subscription.filter.event_name.as_ref().map(|name| connection.topic(name));
        let Some(topic) = event.or_else(|| self.config.all_messages_topic.clone()) else {
            return fails(
                "a subscription without the name of an event needs the topic for all messages".into(),
            );
        };
        let subscribed = Subscribed::new(subscription.filter.clone(), intake);
        connection.routes.subscribe(topic, Arc::clone(&subscribed));
        Ok(DaprConsumer::Subscription(subscribed))
    }

    async fn opened(&self) -> Result<()> {
        self.live.connection()?.serve().await
    }

    async fn keep_dead_letter(&self, letter: DeadLetter) -> Result<()> {
        let connection = self.live.connection()?;
        connection.check_up("dead letter")?;
        let topic = &self.config.dead_letter_topic;
        let event = cloud_event::dead_letter(&letter, connection.destination(topic, false));
        let kept = connection.sidecar.publish(topic, event, "dead letter").await;
        kept.map_err(|failure| failure.into_error("dead letter"))
    }

    async fn disconnect(&self) -> Result<()> {
        if let Some(connection) = self.live.take() {
            connection.close().await;
        }
        Ok(())
    }
}

/// Counts an answer that is no message.
fn note(connection: &Connection, error: &Error) {
    if error.kind() == ErrorKind::InvalidMessage {
        connection.link().malformed(error);
    }
}
