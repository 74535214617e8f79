//! An instance of the TypeScript original: plain clients with its topics, shares and user properties.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use purista_conformance::{Original, Part};
use purista_core::{Result, ServiceAddress, adapter::async_trait, routing::case::snake};
use rumqttc::{Publish, PublishOptions, PublishProperties};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::{peer::Peer, wire::unavailable};

/// The parts of an address, in the order of the topic's levels.
const PARTY: [&str; 4] = ["instanceId", "serviceName", "serviceVersion", "serviceTarget"];

/// What the original calls things.
#[derive(Clone, Debug)]
pub(crate) struct OriginalNames {
    pub(crate) prefix: String,
    /// The share of commands, and of subscriptions that are shared.
    pub(crate) share: String,
    /// What stands for an absent part, before it is converted.
    pub(crate) marker: String,
}

impl OriginalNames {
    fn topic(&self, message: &Value) -> String {
        let level = |value: &Value| snake(value.as_str().unwrap_or(&self.marker)).into_owned();
        let mut levels = vec![self.prefix.clone()];
        levels.extend(["messageType", "principalId", "tenantId"].map(|field| level(&message[field])));
        levels.extend(PARTY.map(|part| level(&message["sender"][part])));
        levels.push(level(&message["eventName"]));
        levels.extend(PARTY.map(|part| level(&message["receiver"][part])));
        levels.join("/")
    }

    fn commands(&self, command: &ServiceAddress) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = command;
        let levels = [service_name, service_version, service_target].map(|part| snake(part));
        self.shared(&format!("{}/command/{}{}", self.prefix, "+/".repeat(8), levels.join("/")))
    }

    fn event(&self, event_name: &str) -> String {
        self.shared(&format!("{}/{}{}/+/+/+/+", self.prefix, "+/".repeat(7), snake(event_name)))
    }

    /// Whatever names this instance as its receiver.
    fn to(&self, instance_id: &str) -> String {
        format!("{}/{}{}/+/+/+", self.prefix, "+/".repeat(8), snake(instance_id))
    }

    fn shared(&self, filter: &str) -> String {
        format!("$share/{}/{filter}", self.share)
    }
}

pub(crate) struct MqttOriginal {
    client: Arc<Peer>,
    names: OriginalNames,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl MqttOriginal {
    pub(crate) async fn start(address: SocketAddr, names: OriginalNames, part: &Part) -> Result<Self> {
        let client = Arc::new(Peer::connect(address));
        let answers = Arc::clone(&part.answers);
        let to_us = names.to(&part.instance_id);
        let mut tasks = vec![listen(address, to_us, move |body| answers.add(body)).await?];
        for served in &part.serves {
            let (mut came, served) = (Peer::connect(address), served.clone());
            came.subscribe(names.commands(&served.command)).await?;
            let (names, client) = (names.clone(), Arc::clone(&client));
            tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(Publish { payload, properties, .. }) = came.next().await {
                    let Ok(command) = serde_json::from_slice::<Value>(&payload) else { continue };
                    let (answer, body) = served.execute(command);
                    let mut beside = properties_of(&answer);
                    beside.correlation_data = properties.and_then(|properties| properties.correlation_data);
                    let options = PublishOptions::at_least_once().properties(beside);
                    if client.send(names.topic(&answer), body, options).await.is_err() {
                        return;
                    }
                }
            })));
        }
        for subscribed in &part.subscribes {
            let seen = Arc::clone(&subscribed.seen);
            let filter = names.event(&subscribed.event_name);
            tasks.push(listen(address, filter, move |body| seen.add(body)).await?);
        }
        Ok(Self { client, names, _tasks: tasks })
    }
}

/// Takes the messages of one filter.
async fn listen(
    address: SocketAddr,
    filter: String,
    mut take: impl FnMut(Value) + Send + 'static,
) -> Result<AbortOnDropHandle<()>> {
    let mut came = Peer::connect(address);
    came.subscribe(filter).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(publish) = came.next().await {
            if let Ok(body) = serde_json::from_slice(&publish.payload) {
                take(body);
            }
        }
    })))
}

/// Returns what the original sends beside a message.
fn properties_of(message: &Value) -> PublishProperties {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut user_properties = Vec::new();
    let mut add =
        |name: String, value: Option<String>| user_properties.extend(value.map(|value| (name, value)));
    for field in ["messageType", "eventName", "principalId", "tenantId"] {
        add(field.to_owned(), text(&message[field]));
    }
    let is_addressed = message["messageType"] != "customMessage";
    for side in ["sender", "receiver"].into_iter().filter(|side| *side == "sender" || is_addressed) {
        for part in PARTY {
            add(format!("{side}{}{}", part[..1].to_uppercase(), &part[1..]), text(&message[side][part]));
        }
    }
    PublishProperties {
        message_expiry_interval: Some(30),
        content_type: Some("application/json".to_owned()),
        correlation_data: text(&message["correlationId"]).filter(|_| is_addressed).map(Into::into),
        user_properties,
        ..PublishProperties::default()
    }
}

#[async_trait]
impl Original for MqttOriginal {
    async fn send(&self, message: &Value, body: Bytes) -> Result<()> {
        let options = PublishOptions::at_least_once().properties(properties_of(message));
        let sent = self.client.send(self.names.topic(message), body, options).await;
        sent.map_err(unavailable)
    }
}
