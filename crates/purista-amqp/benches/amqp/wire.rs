//! What the bridge puts on the wire, for the raw client to send the very same.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use purista_integration_tests::{bench::Stage, rabbitmq::RabbitServer};

/// The key that all messages of the native topology have beside others.
const EVERYTHING: &str = "#";

/// Opens a connection and a channel on it. The channel keeps the connection.
pub(crate) async fn connect(url: &str) -> anyhow::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Creates a virtual host for a scenario, which is deleted at the end. Returns the URL.
pub(crate) async fn own_vhost(
    server: &Arc<RabbitServer>,
    stage: &mut Stage,
    name: String,
) -> anyhow::Result<String> {
    server.management().create_vhost(&name).await?;
    let (server, url) = (Arc::clone(server), server.url_of(&name));
    stage.at_end(async move { server.management().delete_vhost(&name).await });
    Ok(url)
}

/// Declares a queue of one connection.
pub(crate) async fn declare_exclusive(channel: &Channel, name: &str) -> anyhow::Result<ShortString> {
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(name.into(), options, FieldTable::default()).await?.name().clone())
}

/// Consumes from a queue, with acknowledgements or without.
pub(crate) async fn consume(channel: &Channel, queue: ShortString, no_ack: bool) -> anyhow::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?)
}

/// Listens to what a bridge publishes to an exchange of the native topology.
pub(crate) struct Wire {
    messages: Consumer,
    _connection: Connection,
}

impl Wire {
    pub(crate) async fn listen(url: &str, exchange: &str) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        let queue = declare_exclusive(&channel, "").await?;
        bind(&channel, &queue, exchange, EVERYTHING, FieldTable::default()).await?;
        Ok(Self { messages: consume(&channel, queue, true).await?, _connection: connection })
    }

    /// Returns the next message that was published.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Delivery> {
        Ok(self.messages.next().await.context("the connection is closed")??)
    }
}

pub(crate) async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &str,
    key: &str,
    arguments: FieldTable,
) -> anyhow::Result<()> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.clone(), exchange.into(), key.into(), options, arguments).await?)
}
