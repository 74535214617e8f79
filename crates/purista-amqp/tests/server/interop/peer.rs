//! Clients that behave as the original does.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use parking_lot::Mutex;
use purista_core::ServiceAddress;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{
    properties,
    samples::{Call, Frame},
};
use crate::support::{Client, Place, next};

const EXCHANGE: &str = "purista";

/// An instance of the original: a headers exchange, and a queue for answers.
pub(crate) struct Peer {
    client: Client,
    pub(crate) reply_queue: String,
    answers: Consumer,
}

impl Peer {
    pub(crate) async fn new(place: &Place) -> Self {
        let client = place.client().await;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = client.channel.exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Headers,
            options,
            FieldTable::default(),
        );
        declared.await.unwrap();
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = client.channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let reply_queue = queue.name().to_string();
        bind(&client.channel, &reply_queue, &[("replyTo", &reply_queue)]).await;
        let answers = consume(&client.channel, &reply_queue, true).await;
        Self { client, reply_queue, answers }
    }

    /// Sends a message; a command is answered to this peer.
    pub(crate) async fn send(&self, frame: &Frame) {
        let mut frame = frame.clone();
        if let Some(reply_to) = frame.properties.get_mut("replyTo") {
            *reply_to = json!(self.reply_queue);
        }
        send(&self.client.channel, &frame).await;
    }

    /// Returns the next answer.
    pub(crate) async fn answer(&mut self) -> Delivery {
        next(&mut self.answers).await
    }

    /// Consumes a queue that it declares and binds by headers.
    pub(crate) async fn listen(
        &self,
        queue: &str,
        options: QueueDeclareOptions,
        wanted: &[(&str, &str)],
    ) -> Consumer {
        let channel = &self.client.channel;
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        bind(channel, queue, wanted).await;
        consume(channel, queue, options.auto_delete).await
    }

    /// Begins to serve a command; it gets no answer if `answer` has none.
    pub(crate) async fn serve(
        self,
        command: &ServiceAddress,
        answer: impl Fn(&Frame) -> Option<Frame> + Send + 'static,
    ) -> Service {
        let ServiceAddress { service_name, service_version, service_target, .. } = command;
        let queue = format!("purista.cmd.{service_name}.{service_version}.{service_target}");
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        let wanted = [
            ("messageType", "command"),
            ("receiverServiceName", service_name),
            ("receiverServiceVersion", service_version),
            ("receiverServiceTarget", service_target),
        ];
        let mut consumer = self.listen(&queue, options, &wanted).await;
        let commands = Arc::<Mutex<Vec<Delivery>>>::default();
        let seen = Arc::clone(&commands);
        let task = tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let command = frame(&delivery);
                seen.lock().push(delivery);
                if let Some(answer) = answer(&command) {
                    send(&self.client.channel, &answer).await;
                }
            }
        });
        Service { commands, task }
    }
}

/// A peer that serves a command.
pub(crate) struct Service {
    commands: Arc<Mutex<Vec<Delivery>>>,
    task: JoinHandle<()>,
}

impl Service {
    /// Returns the commands that came.
    pub(crate) fn commands(&self) -> Vec<Frame> {
        self.commands.lock().iter().map(frame).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind(channel: &Channel, queue: &str, wanted: &[(&str, &str)]) {
    let mut arguments = FieldTable::default();
    for (name, value) in [("x-match", "all")].iter().chain(wanted) {
        arguments.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), EXCHANGE.into(), "".into(), options, arguments).await.unwrap();
}

/// The original acknowledges events after their handler, and commands never.
async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Consumer {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn send(channel: &Channel, frame: &Frame) {
    let (properties, body) = (properties::from_json(&frame.properties), frame.body.to_string());
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(EXCHANGE.into(), "".into(), options, body.as_bytes(), properties).await;
    sent.unwrap().await.unwrap();
}

/// Reads what came.
pub(crate) fn frame(delivery: &Delivery) -> Frame {
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), (EXCHANGE, ""));
    let body = serde_json::from_slice(&delivery.data).unwrap();
    Frame { properties: properties::to_json(&delivery.properties), body }
}

/// The same command once more, as another call.
pub(crate) fn again(command: &Frame, number: usize) -> Frame {
    let mut other = command.clone();
    let (id, call) = (json!(format!("{number:032x}")), json!(format!("{:032x}", number + (1 << 20))));
    (other.body["id"], other.properties["messageId"]) = (id.clone(), id);
    (other.body["correlationId"], other.properties["correlationId"]) = (call.clone(), call);
    other
}

/// Answers a command as the original answered the one of the sample.
pub(crate) fn answer_as_in(call: &Call, command: &Frame) -> Frame {
    let mut answer = call.answer().clone();
    for (field, property) in [("id", "messageId"), ("correlationId", "correlationId")] {
        answer.body[field] = command.body[field].clone();
        answer.properties[property] = command.body[field].clone();
    }
    let caller = &command.body["sender"];
    answer.body["receiver"] = caller.clone();
    let headers = answer.properties["headers"].as_object_mut().unwrap();
    headers.insert("replyTo".to_owned(), command.properties["replyTo"].clone());
    for part in ["ServiceName", "ServiceVersion", "ServiceTarget"] {
        let field = part.replacen('S', "s", 1);
        headers.insert(format!("receiver{part}"), caller[&field].clone());
    }
    headers.insert("receiverServiceInstanceId".to_owned(), caller["instanceId"].clone());
    answer
}

/// Takes a header out that the original adds for its tracing; the message itself has the trace context, too. Ours would
/// make the original begin a new trace.
pub(crate) fn take_out_trace(properties: &mut Value) -> Option<Value> {
    properties["headers"].as_object_mut().unwrap().remove("traceparent")
}
