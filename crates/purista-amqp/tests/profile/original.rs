//! An instance of the TypeScript original: a plain client with its headers exchange, queues and headers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_conformance::{Original, Part, Served};
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::wire::unavailable;

/// The parts of an address that have headers.
const PARTS: [&str; 3] = ["serviceName", "serviceVersion", "serviceTarget"];

/// What the original calls things.
#[derive(Clone, Debug)]
pub(crate) struct OriginalNames {
    pub(crate) exchange: String,
    pub(crate) prefix: String,
}

pub(crate) struct AmqpOriginal {
    _connection: Connection,
    channel: Channel,
    names: OriginalNames,
    reply_queue: String,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl AmqpOriginal {
    pub(crate) async fn start(url: &str, names: OriginalNames, part: &Part) -> Result<Self> {
        Self::declare(url, names, part).await.map_err(|cause: lapin::Error| unavailable(cause))
    }

    async fn declare(url: &str, names: OriginalNames, part: &Part) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = names.exchange.as_str().into();
        channel.exchange_declare(exchange, ExchangeKind::Headers, options, FieldTable::default()).await?;

        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let reply_queue = queue.name().to_string();
        bind(&channel, &names, &reply_queue, &[("replyTo", &reply_queue)]).await?;
        let answers = Arc::clone(&part.answers);
        let came = consume(&channel, &reply_queue, true).await?;
        let mut tasks = vec![each(came, true, move |body| answers.add(body))];
        for served in &part.serves {
            let ServiceAddress { service_name, service_version, service_target, .. } = &served.command;
            let queue = format!("{}.cmd.{service_name}.{service_version}.{service_target}", names.prefix);
            let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
            let wanted = [
                ("messageType", "command"),
                ("receiverServiceName", &**service_name),
                ("receiverServiceVersion", &**service_version),
                ("receiverServiceTarget", &**service_target),
            ];
            bind(&channel, &names, &queue, &wanted).await?;
            let came = consume(&channel, &queue, true).await?;
            let task = tokio::spawn(serve(channel.clone(), names.exchange.clone(), came, served.clone()));
            tasks.push(AbortOnDropHandle::new(task));
        }
        for subscribed in &part.subscribes {
            let ServiceAddress { service_name, service_version, service_target, .. } = &subscribed.subscriber;
            let queue = format!("{}.sub.{service_name}.{service_version}.{service_target}", names.prefix);
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
            bind(&channel, &names, &queue, &[("eventName", &*subscribed.event_name)]).await?;
            let (came, seen) = (consume(&channel, &queue, false).await?, Arc::clone(&subscribed.seen));
            tasks.push(each(came, false, move |body| seen.add(body)));
        }
        Ok(Self { _connection: connection, channel, names, reply_queue, _tasks: tasks })
    }
}

async fn bind(
    channel: &Channel,
    names: &OriginalNames,
    queue: &str,
    wanted: &[(&str, &str)],
) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-match", "all")].iter().chain(wanted) {
        arguments.insert((*name).into(), text(value));
    }
    let exchange = names.exchange.as_str().into();
    channel.queue_bind(queue.into(), exchange, "".into(), QueueBindOptions::default(), arguments).await
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}

fn each(
    mut came: Consumer,
    no_ack: bool,
    mut take: impl FnMut(Value) + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(Ok(delivery)) = came.next().await {
            if let Ok(body) = serde_json::from_slice(&delivery.data) {
                take(body);
            }
            if !no_ack && delivery.ack(BasicAckOptions::default()).await.is_err() {
                return;
            }
        }
    }))
}

async fn serve(channel: Channel, exchange: String, mut came: Consumer, served: Served) {
    while let Some(Ok(delivery)) = came.next().await {
        let Ok(command) = serde_json::from_slice::<Value>(&delivery.data) else { continue };
        let (answer, body) = served.execute(command);
        let mut headers = headers_of(&answer);
        if let Some(to) = delivery.properties.reply_to() {
            headers.insert("replyTo".into(), text(to.as_str()));
        }
        let properties = properties_of(&answer, headers);
        if publish(&channel, &exchange, properties, &body).await.is_err() {
            return;
        }
    }
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    properties: BasicProperties,
    body: &[u8],
) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), "".into(), options, body, properties).await?.await.map(drop)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn headers_of(message: &Value) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut add = |name: String, value: &Value| {
        if let Some(value) = value.as_str() {
            headers.insert(ShortString::from(name), text(value));
        }
    };
    for field in ["messageType", "eventName", "principalId", "tenantId"] {
        add(field.to_owned(), &message[field]);
    }
    add("senderInstanceId".to_owned(), &message["sender"]["instanceId"]);
    let message_type = message["messageType"].as_str().unwrap_or_default();
    for side in ["sender", "receiver"] {
        if side == "receiver" && message_type == "customMessage" {
            continue;
        }
        for part in PARTS {
            add(format!("{side}{}", part.replacen('s', "S", 1)), &message[side][part]);
        }
    }
    if message_type.ends_with("Response") {
        add("receiverServiceInstanceId".to_owned(), &message["receiver"]["instanceId"]);
    }
    headers
}

fn properties_of(message: &Value, headers: FieldTable) -> BasicProperties {
    let text = |field: &str| message[field].as_str().unwrap_or_default().into();
    BasicProperties::default()
        .with_message_id(text("id"))
        .with_correlation_id(text("correlationId"))
        .with_timestamp(message["timestamp"].as_u64().unwrap_or_default())
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_type(text("messageType"))
        .with_delivery_mode(2)
        .with_headers(headers)
}

#[async_trait]
impl Original for AmqpOriginal {
    async fn send(&self, message: &Value, body: Bytes) -> Result<()> {
        let mut properties = properties_of(message, headers_of(message));
        if message["messageType"] == "command" || message["messageType"] == "stream" {
            properties = properties.with_reply_to(self.reply_queue.as_str().into());
        }
        publish(&self.channel, &self.names.exchange, properties, &body).await.map_err(unavailable)
    }
}
