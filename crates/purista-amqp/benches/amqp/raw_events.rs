//! The raw side of confirmed and acknowledged events.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ExchangeKind,
    options::{BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use purista_integration_tests::bench::Handled;
use tokio::task::JoinHandle;

use crate::{
    wire::{bind, connect, consume as consume_from},
    wire_calls::acknowledge,
};

/// How many messages may be on their way to one consumer.
pub(crate) const PREFETCH: usize = 500;

/// Where events go, and as what.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: Bytes,
}

/// Publishes events, and waits for the broker's confirm.
pub(crate) struct Publisher {
    channel: Channel,
    route: Route,
    _connection: Connection,
}

impl Publisher {
    pub(crate) async fn connect(url: &str, route: Route) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, route, _connection: connection })
    }

    pub(crate) async fn publish(&self) -> anyhow::Result<()> {
        let Route { exchange, key, properties, payload } = &self.route;
        let (exchange, key, options) = (exchange.clone(), key.clone(), BasicPublishOptions::default());
        let sent = self.channel.basic_publish(exchange, key, options, payload, properties.clone());
        let confirmation = sent.await?.await?;
        ensure!(confirmation == Confirmation::Ack(None), "an event was refused");
        Ok(())
    }
}

/// Declares a durable queue, which drops its oldest messages if it has a limit.
pub(crate) async fn declare(
    channel: &Channel,
    name: &str,
    is_quorum: bool,
    limit: Option<i32>,
) -> anyhow::Result<ShortString> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if is_quorum {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    if let Some(limit) = limit {
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(limit));
    }
    Ok(channel.queue_declare(name.into(), options, arguments).await?.name().clone())
}

/// Binds a queue behind a topic exchange and a fanout exchange, as the native topology does.
pub(crate) async fn bind_as_native(
    channel: &Channel,
    queue: &ShortString,
    route: &Route,
) -> anyhow::Result<()> {
    let gate: ShortString = format!("{}.gate", route.exchange).into();
    let none = FieldTable::default;
    let (exchange, key) = (route.exchange.clone(), route.key.clone());
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, Default::default(), none()).await?;
    channel.exchange_declare(gate.clone(), ExchangeKind::Fanout, Default::default(), none()).await?;
    channel.exchange_bind(gate.clone(), exchange, key, Default::default(), none()).await?;
    bind(channel, queue, gate.as_str(), "", none()).await
}

/// Starts to consume; acknowledges what was handled, as much at once as has come.
pub(crate) async fn consume(
    url: &str,
    queue: &ShortString,
    handled: &Arc<Handled>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (connection, channel) = connect(url).await?;
    channel.basic_qos(u16::try_from(PREFETCH)?, BasicQosOptions::default()).await?;
    let mut messages = consume_from(&channel, queue.clone(), false).await?;
    let handled = Arc::clone(handled);
    Ok(tokio::spawn(async move {
        let _connection = connection;
        while let Some(first) = messages.next().await {
            let (mut next, mut last) = (Some(first), 0);
            while let Some(message) = next {
                last = message?.delivery_tag;
                handled.one_more();
                next = messages.next().now_or_never().flatten();
            }
            acknowledge(&channel, last)?;
        }
        Ok(())
    }))
}
