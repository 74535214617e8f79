//! The wire as a foreign peer knows it, written down a second time.

use std::fmt::Display;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use purista_conformance::CloudEventForm;
use purista_core::{
    Error, ErrorKind, Message, Result, ServiceAddress, adapter::DeadLetter, routing::case::kebab,
};
use purista_integration_tests::dapr::Sidecar;
use serde::Deserialize;
use serde_json::Value;

/// The topic that sees all messages.
pub(crate) const ALL_MESSAGES: &str = "purista-messages";

const DEAD_LETTERS: &str = "purista-dead-letter";

pub(crate) fn unavailable(cause: impl Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test").with_context(format!("{cause:#}"))
}

/// What a sidecar says of itself.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) subscriptions: Vec<Subscription>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) topic: String,
}

/// A client of sidecars that knows nothing of bridges.
#[derive(Debug, Default)]
pub(crate) struct Peer(reqwest::Client);

impl Peer {
    /// Returns the topics that a sidecar subscribes to.
    pub(crate) async fn topics(&self, sidecar: &Sidecar) -> Result<Vec<String>> {
        let url = format!("{}/v1.0/metadata", sidecar.url());
        let body = self.0.get(url).send().await.map_err(unavailable)?.bytes().await.map_err(unavailable)?;
        let metadata: Metadata = serde_json::from_slice(&body).map_err(unavailable)?;
        Ok(metadata.subscriptions.into_iter().map(|subscription| subscription.topic).collect())
    }

    /// Publishes something, of which the sidecar makes a CloudEvent unless it is one.
    pub(crate) async fn publish(
        &self,
        sidecar: &Sidecar,
        topic: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<()> {
        let url = format!("{}/v1.0/publish/pubsub/{topic}", sidecar.url());
        let sent = self.0.post(url).header("content-type", kind).body(body).send().await;
        let status = sent.map_err(unavailable)?.status();
        if status.is_success() { Ok(()) } else { Err(unavailable(status)) }
    }

    /// Delivers a CloudEvent to an app, as its sidecar does. Returns whether it was taken.
    pub(crate) async fn deliver(
        &self,
        url: &str,
        form: CloudEventForm,
        attributes: &[(&str, &str)],
        data: &Bytes,
    ) -> Result<bool> {
        let mut request = self.0.post(url);
        if form == CloudEventForm::Binary {
            request = request.header("content-type", "application/json").body(data.clone());
            for (name, value) in attributes {
                request = request.header(format!("ce-{name}"), *value);
            }
        } else {
            let mut event: serde_json::Map<String, Value> =
                attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            event.insert("data".to_owned(), serde_json::from_slice(data).map_err(unavailable)?);
            let body = Value::Object(event).to_string();
            request = request.header("content-type", "application/cloudevents+json").body(body);
        }
        let status = request.send().await.map_err(unavailable)?.status();
        match status.as_u16() {
            400 => Ok(false),
            _ if status.is_success() => Ok(true),
            _ => Err(unavailable(status)),
        }
    }

    /// Calls a command, whatever the answer is.
    pub(crate) async fn call(
        &self,
        sidecar: &Sidecar,
        app_id: &str,
        command: &ServiceAddress,
        body: Bytes,
    ) -> Result<()> {
        let (url, name) = (sidecar.url(), kebab(&command.service_target));
        let url = format!("{url}/v1.0/invoke/{app_id}/method/purista/command/{name}");
        let sent = self.0.post(url).header("content-type", "application/json").body(body).send().await;
        sent.map(drop).map_err(unavailable)
    }
}

/// Makes a CloudEvent of a message whose attribute names another tenant.
pub(crate) fn event_of_tenant(message: &Message, tenant: &str) -> Bytes {
    let envelope = String::from_utf8_lossy(&message.encode()).into_owned();
    let tenant = serde_json::json!(tenant);
    let head = format!(
        r#""specversion":"1.0","id":"{}","source":"peer","type":"purista","tenantid":{tenant}"#,
        message.id
    );
    format!(r#"{{{head},"datacontenttype":"application/json","data":{envelope}}}"#).into()
}

async fn channel(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Has a server keep dead letters, as an operator does.
pub(crate) async fn prepare_dead_letters(url: &str) -> Result<()> {
    let prepared = async {
        let (connection, channel) = channel(url).await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let name = DEAD_LETTERS.into();
        channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(DEAD_LETTERS.into(), options, FieldTable::default()).await?;
        let (queue, exchange, options) =
            (DEAD_LETTERS.into(), DEAD_LETTERS.into(), QueueBindOptions::default());
        channel.queue_bind(queue, exchange, "".into(), options, FieldTable::default()).await?;
        connection.close(200, "done".into()).await
    };
    prepared.await.map_err(|cause: lapin::Error| unavailable(cause))
}

/// Returns whether a queue is one that sidecars read.
pub(crate) fn is_read(queue: &str) -> bool {
    queue != DEAD_LETTERS
}

/// What of a CloudEvent makes a dead letter.
#[derive(Deserialize)]
struct Kept {
    puristadeadletter: String,
    data_base64: String,
}

/// Takes the dead letters out of a server.
pub(crate) async fn take_dead_letters(url: &str) -> Result<Vec<DeadLetter>> {
    let (connection, channel) = channel(url).await.map_err(unavailable)?;
    let mut letters = Vec::new();
    let get = async || {
        let options = BasicGetOptions { no_ack: true };
        channel.basic_get(DEAD_LETTERS.into(), options).await.map_err(unavailable)
    };
    while let Some(kept) = get().await? {
        let kept: Kept = serde_json::from_slice(&kept.delivery.data).map_err(unavailable)?;
        let original = BASE64_STANDARD.decode(kept.data_base64).map_err(unavailable)?;
        letters.push(DeadLetter::from_metadata(&kept.puristadeadletter, original.into())?);
    }
    connection.close(200, "done".into()).await.map_err(unavailable)?;
    Ok(letters)
}
