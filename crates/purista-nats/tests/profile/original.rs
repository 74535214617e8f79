//! An instance of the TypeScript original: a plain client, which knows nothing of JetStream or of our headers.

use std::sync::Arc;

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use purista_conformance::{Original, Part, Served};
use purista_core::{Result, ServiceAddress, adapter::async_trait, routing::case::snake};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::wire::unavailable;

/// The parts of an address, in the order of the subject's tokens.
const PARTY: [&str; 4] = ["instanceId", "serviceName", "serviceVersion", "serviceTarget"];

pub(crate) struct NatsOriginal {
    client: Client,
    names: OriginalNames,
    inbox: String,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What the original calls things.
#[derive(Clone, Debug)]
pub(crate) struct OriginalNames {
    pub(crate) prefix: String,
    /// What stands for an absent part, before it is converted.
    pub(crate) marker: String,
}

impl OriginalNames {
    fn subject(&self, message: &Value) -> String {
        let token = |value: &Value| snake(value.as_str().unwrap_or(&self.marker)).into_owned();
        let mut tokens = vec![self.prefix.clone()];
        tokens.extend(["messageType", "principalId", "tenantId"].map(|field| token(&message[field])));
        tokens.extend(PARTY.map(|part| token(&message["sender"][part])));
        tokens.push(token(&message["eventName"]));
        tokens.extend(PARTY.map(|part| token(&message["receiver"][part])));
        tokens.join(".")
    }

    fn commands(&self, command: &ServiceAddress) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = command;
        let tokens = [service_name, service_version, service_target].map(|part| snake(part));
        format!("{}.command.{}{}", self.prefix, "*.".repeat(8), tokens.join("."))
    }

    fn event(&self, event_name: &str) -> String {
        format!("{}.{}{}.*.*.*.*", self.prefix, "*.".repeat(7), snake(event_name))
    }

    fn frames_to(&self, instance_id: &str) -> String {
        format!("{}.stream.{}{}.*.*.*", self.prefix, "*.".repeat(7), snake(instance_id))
    }

    fn group(&self, address: &ServiceAddress) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = address;
        format!("{}_queue_{service_name}_{service_version}_{service_target}", self.prefix).to_uppercase()
    }
}

impl NatsOriginal {
    pub(crate) async fn start(url: &str, names: OriginalNames, part: &Part) -> Result<Self> {
        let client = async_nats::connect(url).await.map_err(unavailable)?;
        let mut tasks = Vec::new();
        let inbox = client.new_inbox();
        for subject in [format!("{inbox}.*"), names.frames_to(&part.instance_id)] {
            let came = client.subscribe(subject).await.map_err(unavailable)?;
            let answers = Arc::clone(&part.answers);
            tasks.push(each(came, move |message| {
                if let Ok(body) = serde_json::from_slice(&message.payload) {
                    answers.add(body);
                }
            }));
        }
        for served in &part.serves {
            let (subject, group) = (names.commands(&served.command), names.group(&served.command));
            let came = client.queue_subscribe(subject, group).await.map_err(unavailable)?;
            let task = tokio::spawn(serve(client.clone(), came, served.clone()));
            tasks.push(AbortOnDropHandle::new(task));
        }
        for subscribed in &part.subscribes {
            let (subject, group) = (names.event(&subscribed.event_name), names.group(&subscribed.subscriber));
            let came = client.queue_subscribe(subject, group).await.map_err(unavailable)?;
            let seen = Arc::clone(&subscribed.seen);
            tasks.push(each(came, move |message| {
                if let Ok(body) = serde_json::from_slice(&message.payload) {
                    seen.add(body);
                }
            }));
        }
        round_trip(&client).await?;
        Ok(Self { client, names, inbox, _tasks: tasks })
    }
}

fn each(mut came: Subscriber, mut take: impl FnMut(Message) + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(message) = came.next().await {
            take(message);
        }
    }))
}

async fn serve(client: Client, mut came: Subscriber, served: Served) {
    while let Some(Message { payload, reply, .. }) = came.next().await {
        let (Ok(command), Some(inbox)) = (serde_json::from_slice::<Value>(&payload), reply) else { continue };
        let (answer, body) = served.execute(command);
        let mut headers = HeaderMap::new();
        headers.insert("messageType", answer["messageType"].as_str().unwrap_or_default());
        for (side, prefix) in [("sender", "sender"), ("receiver", "receiver")] {
            for part in PARTY {
                let name = format!("{prefix}{}{}", part[..1].to_uppercase(), &part[1..]);
                headers.insert(name.as_str(), answer[side][part].as_str().unwrap_or_default());
            }
        }
        if client.publish_with_headers(inbox, headers, body).await.is_err() {
            return;
        }
    }
}

/// Waits until the server has done what was said so far.
async fn round_trip(client: &Client) -> Result<()> {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.map_err(unavailable)?;
    client.publish(inbox, Bytes::new()).await.map_err(unavailable)?;
    back.next().await.map(drop).ok_or_else(|| unavailable("the connection ended"))
}

#[async_trait]
impl Original for NatsOriginal {
    async fn send(&self, message: &Value, body: Bytes) -> Result<()> {
        let subject = self.names.subject(message);
        let sent = if message["messageType"] == "command" {
            let inbox = format!("{}.{}", self.inbox, message["correlationId"].as_str().unwrap_or_default());
            self.client.publish_with_reply(subject, inbox, body).await
        } else {
            self.client.publish(subject, body).await
        };
        sent.map_err(unavailable)?;
        round_trip(&self.client).await
    }
}
