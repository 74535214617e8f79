//! How the original uses RabbitMQ. Exchange and routing key are the same for all its messages.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lapin::{
    ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use purista_core::{EventBridge, ServiceAddress, adapter::async_trait};
use purista_integration_tests::interop::{Came, Frame, Interest, Peer, Subscriber, Whose, Wire};
use serde_json::{Map, Value, json};

use super::properties;
use crate::support::{Client, Place, started};

const EXCHANGE: &str = "purista";

/// A virtual host of its own.
pub(crate) struct Amqp {
    pub(crate) place: Place,
}

#[async_trait]
impl Wire for Amqp {
    const CALLS: &'static str = include_str!("../../samples/calls.jsonl");
    const EVENTS: &'static str = include_str!("../../samples/events.jsonl");

    async fn start() -> Self {
        Self { place: Place::shared().await }
    }

    async fn bridge(&self, instance_id: Option<&str>) -> Arc<dyn EventBridge> {
        let builder = self.place.typescript();
        Arc::new(match instance_id {
            Some(instance_id) => started(builder.instance_id(instance_id)).await,
            None => started(builder).await,
        })
    }

    async fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(AmqpPeer::start(&self.place).await)
    }

    fn follow(frame: &mut Frame, asked: Option<&Frame>) {
        let Frame { body, outside, .. } = frame;
        let properties = &mut outside["properties"];
        for (property, field) in [("messageId", "id"), ("correlationId", "correlationId")] {
            properties[property] = body[field].clone();
        }
        if let Some(asked) = asked {
            let headers = &mut properties["headers"];
            headers["replyTo"] = asked.outside["properties"]["replyTo"].clone();
            for part in ["ServiceName", "ServiceVersion", "ServiceTarget"] {
                headers[format!("receiver{part}")] = body["receiver"][part.replacen('S', "s", 1)].clone();
            }
            headers["receiverServiceInstanceId"] = body["receiver"]["instanceId"].clone();
        }
    }

    fn strip(frame: &mut Frame) {
        let (properties, headers): (&[_], &[_]) = if frame.is_answer() {
            (&[], &["replyTo"])
        } else if frame.is_command() {
            let receiver =
                &["messageType", "receiverServiceName", "receiverServiceVersion", "receiverServiceTarget"];
            (&["contentType", "contentEncoding", "replyTo"], receiver)
        } else {
            // Those that lead to the subscriber.
            (&["contentType", "contentEncoding"], &["eventName"])
        };
        let all = frame.outside["properties"].take();
        frame.outside["properties"] = some(&all, properties);
        frame.outside["properties"]["headers"] = some(&all["headers"], headers);
    }

    fn comparable(&self, mut frame: Frame, whose: Whose) -> Frame {
        let (is_answer, is_command) = (frame.is_answer(), frame.is_command());
        let properties = frame.outside["properties"].as_object_mut().unwrap();
        for (property, field) in
            [("messageId", "id"), ("correlationId", "correlationId"), ("timestamp", "timestamp")]
        {
            assert_eq!(properties.remove(property).as_ref(), frame.body.get(field), "{property}");
        }
        let mut take = |name: &str| properties.remove(name);
        let (reply_to, limit) = (take("replyTo"), take("expiration"));
        let headers = properties["headers"].as_object_mut().unwrap();
        // Where an answer came says what this was: the queue is bound by it.
        let reply_to = if is_answer { headers.remove("replyTo") } else { reply_to };
        let has_place = reply_to.is_some_and(|it| !it.as_str().unwrap().is_empty());
        assert_eq!(has_place, is_answer || is_command);
        // The original adds it for its tracing; the message itself has the trace context, too. Ours would make the
        // original begin a new trace.
        assert_eq!(headers.remove("traceparent").is_some(), whose == Whose::Original);
        // Only ours has a time limit.
        let limit = limit.map(|limit| limit.as_str().unwrap().parse::<u64>().unwrap());
        match (limit, is_command && whose == Whose::Ours) {
            (Some(limit), true) => assert!((1..=10_000).contains(&limit), "{limit}"),
            (limit, has_limit) => assert_eq!(limit.is_some(), has_limit),
        }
        if is_answer && whose == Whose::Original {
            let misspelt = frame.body.as_object_mut().unwrap().remove("sennder").unwrap();
            assert_eq!(misspelt, frame.body["sender"]);
        }
        frame
    }
}

/// Returns these values only.
fn some(from: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), from[*name].clone())).collect::<Map<_, _>>().into()
}

/// An instance of the original: a headers exchange, and a queue for answers.
pub(crate) struct AmqpPeer {
    client: Arc<Client>,
    reply_queue: String,
}

impl AmqpPeer {
    pub(crate) async fn start(place: &Place) -> Self {
        let client = Arc::new(place.client().await);
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let (channel, none) = (&client.channel, FieldTable::default());
        let kind = ExchangeKind::Headers;
        channel.exchange_declare(EXCHANGE.into(), kind, options, none.clone()).await.unwrap();
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, none).await.unwrap();
        let peer = Self { reply_queue: queue.name().to_string(), client };
        peer.bind(&peer.reply_queue, &[("replyTo", &peer.reply_queue)]).await;
        peer
    }

    /// Consumes a queue that it declares and binds by headers.
    pub(crate) async fn consume_bound(
        &self,
        queue: &str,
        options: QueueDeclareOptions,
        wanted: &[(&str, &str)],
    ) -> Came {
        let declared = self.client.channel.queue_declare(queue.into(), options, FieldTable::default());
        declared.await.unwrap();
        self.bind(queue, wanted).await;
        self.consume(queue, options.auto_delete).await
    }

    async fn bind(&self, queue: &str, wanted: &[(&str, &str)]) {
        let mut arguments = FieldTable::default();
        for (name, value) in [("x-match", "all")].iter().chain(wanted) {
            arguments.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let (channel, options) = (&self.client.channel, QueueBindOptions::default());
        channel.queue_bind(queue.into(), EXCHANGE.into(), "".into(), options, arguments).await.unwrap();
    }

    /// The original acknowledges events after their handler, and commands never.
    async fn consume(&self, queue: &str, no_ack: bool) -> Came {
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        let (client, none) = (Arc::clone(&self.client), FieldTable::default());
        let consumer = client.channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap();
        let came = stream::unfold((consumer, client), move |(mut consumer, client)| async move {
            let delivery = consumer.next().await?.ok()?;
            if !no_ack {
                delivery.ack(BasicAckOptions::default()).await.ok()?;
            }
            Some((frame(&delivery), (consumer, client)))
        });
        came.boxed()
    }
}

#[async_trait]
impl Peer for AmqpPeer {
    async fn listen(&self, to: Interest<'_>) -> Came {
        match to {
            Interest::Answers(_) => self.consume(&self.reply_queue, true).await,
            Interest::Command(ServiceAddress { service_name, service_version, service_target, .. }) => {
                let queue = format!("purista.cmd.{service_name}.{service_version}.{service_target}");
                let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
                self.consume_bound(&queue, options, &to.wanted()).await
            }
            Interest::Subscription(Subscriber { name, wanted, is_durable: durable, .. }) => {
                let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
                self.consume_bound(&format!("purista.sub.PeerSubscriber.1.{name}"), options, wanted).await
            }
        }
    }

    async fn send_body(&self, outside: &Value, body: Bytes) {
        let mut properties = outside["properties"].clone();
        if let Some(reply_to) = properties.get_mut("replyTo") {
            *reply_to = json!(self.reply_queue);
        }
        let (properties, options) = (properties::from_json(&properties), BasicPublishOptions::default());
        let channel = &self.client.channel;
        let sent = channel.basic_publish(EXCHANGE.into(), "".into(), options, &body, properties).await;
        sent.unwrap().await.unwrap();
    }
}

/// Reads what came.
fn frame(delivery: &Delivery) -> Frame {
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), (EXCHANGE, ""));
    let body = serde_json::from_slice(&delivery.data).unwrap();
    Frame::new(json!({ "properties": properties::to_json(&delivery.properties) }), body)
}
