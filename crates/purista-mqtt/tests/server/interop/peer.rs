//! Clients that behave as the original does.

use std::sync::Arc;

use parking_lot::Mutex;
use purista_core::{ServiceAddress, routing::case::snake};
use rumqttc::{Publish, PublishProperties};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use super::samples::{Call, Frame};
use crate::client::{Client, topic};

/// What a subscriber of the original to everything listens to.
pub(crate) const EVERYTHING: &str = "purista/+/+/+/+/+/+/+/+/+/+/+/+";

/// What an instance of the original listens to for its answers.
pub(crate) fn answers_of(instance_id: &str) -> String {
    format!("purista/{}{}/+/+/+", "+/".repeat(8), snake(instance_id))
}

/// What a subscriber of the original to an event listens to.
pub(crate) fn event_of(event_name: &str) -> String {
    format!("purista/{}{}/+/+/+/+", "+/".repeat(7), snake(event_name))
}

/// What the instances of the original that serve a command listen to.
pub(crate) fn commands_of(command: &ServiceAddress) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = command;
    let [name, version, target] = [service_name, service_version, service_target].map(|part| snake(part));
    format!("$share/sharedpurista/purista/command/{}{name}/{version}/{target}", "+/".repeat(8))
}

/// Sends a message.
pub(crate) async fn send(client: &Client, frame: &Frame) {
    client.publish(&frame.topic, frame.body.to_string(), properties(&frame.properties)).await;
}

fn properties(properties: &Value) -> PublishProperties {
    let text = |key: &str| properties[key].as_str().map(str::to_owned);
    let user_properties = properties["userProperties"].as_object().into_iter().flatten();
    PublishProperties {
        message_expiry_interval: properties["messageExpiryInterval"]
            .as_u64()
            .map(|it| it.try_into().unwrap()),
        content_type: text("contentType"),
        correlation_data: text("correlationData").map(Into::into),
        user_properties: user_properties
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        ..PublishProperties::default()
    }
}

/// Reads what came.
pub(crate) fn frame(publish: &Publish) -> Frame {
    assert!(!publish.retain);
    let mut properties = publish.properties.clone().unwrap_or_default();
    properties.subscription_identifiers.clear();
    let PublishProperties { message_expiry_interval, content_type, correlation_data, .. } =
        properties.clone();
    let mut known = Map::new();
    if let Some(seconds) = message_expiry_interval {
        known.insert("messageExpiryInterval".to_owned(), json!(seconds));
    }
    if let Some(content_type) = &content_type {
        known.insert("contentType".to_owned(), json!(content_type));
    }
    if let Some(data) = &correlation_data {
        known.insert("correlationData".to_owned(), json!(std::str::from_utf8(data).unwrap()));
    }
    if !properties.user_properties.is_empty() {
        let named = properties.user_properties.iter().map(|(name, value)| (name.clone(), json!(value)));
        known.insert("userProperties".to_owned(), Value::Object(named.collect()));
    }
    let user_properties = properties.user_properties.clone();
    let all = PublishProperties {
        message_expiry_interval,
        content_type,
        correlation_data,
        user_properties,
        ..PublishProperties::default()
    };
    assert_eq!(properties, all, "more than the original sends");
    Frame {
        topic: topic(publish).to_owned(),
        properties: Value::Object(known),
        body: serde_json::from_slice(&publish.payload).unwrap(),
    }
}

/// Takes the seconds out for which the broker keeps a message.
pub(crate) fn take_out_expiry(frame: &mut Frame) -> u64 {
    let expiry = frame.properties.as_object_mut().unwrap().remove("messageExpiryInterval");
    expiry.unwrap().as_u64().unwrap()
}

/// Takes out what the original says beside its messages, and reads in the messages themselves.
pub(crate) fn take_out_user_properties(frame: &mut Frame) {
    frame.properties.as_object_mut().unwrap().remove("userProperties");
}

/// The same command once more, as another call.
pub(crate) fn again(command: &Frame, number: usize) -> Frame {
    let mut other = command.clone();
    let call = json!(format!("{:032x}", number + (1 << 20)));
    other.body["id"] = json!(format!("{number:032x}"));
    (other.body["correlationId"], other.properties["correlationData"]) = (call.clone(), call);
    other
}

/// Answers a command as the original answered the one of the sample.
pub(crate) fn answer_as_in(call: &Call, command: &Frame) -> Frame {
    let mut answer = call.answer().clone();
    for field in ["id", "correlationId"] {
        answer.body[field] = command.body[field].clone();
    }
    answer.properties["correlationData"] = command.body["correlationId"].clone();
    let caller = &command.body["sender"];
    answer.body["receiver"] = caller.clone();
    let mut levels: Vec<_> = answer.topic.split('/').map(str::to_owned).collect();
    let parts = ["instanceId", "serviceName", "serviceVersion", "serviceTarget"];
    for (level, part) in levels[9..].iter_mut().zip(parts) {
        *level = snake(caller[part].as_str().unwrap()).into_owned();
        let name = format!("receiver{}{}", part[..1].to_uppercase(), &part[1..]);
        answer.properties["userProperties"][name] = caller[part].clone();
    }
    answer.topic = levels.join("/");
    answer
}

/// A peer that serves a command.
pub(crate) struct Service {
    commands: Arc<Mutex<Vec<Frame>>>,
    task: JoinHandle<()>,
}

impl Service {
    /// Begins to serve; a command gets no answer if `answer` has none.
    pub(crate) async fn start(
        mut client: Client,
        command: &ServiceAddress,
        answer: impl Fn(&Frame) -> Option<Frame> + Send + 'static,
    ) -> Self {
        client.subscribe(&commands_of(command)).await;
        let commands = Arc::<Mutex<Vec<Frame>>>::default();
        let seen = Arc::clone(&commands);
        let task = tokio::spawn(async move {
            while let Some(publish) = client.receive().await {
                let command = frame(&publish);
                seen.lock().push(command.clone());
                if let Some(answer) = answer(&command) {
                    send(&client, &answer).await;
                }
            }
        });
        Self { commands, task }
    }

    /// Returns the commands that came.
    pub(crate) fn commands(&self) -> Vec<Frame> {
        self.commands.lock().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
