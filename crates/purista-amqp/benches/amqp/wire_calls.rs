//! Requests and replies with all that the native topology puts on the wire.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Confirmation, Connection, Consumer, ExchangeKind,
    message::Delivery,
    options::{BasicAckOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{FieldTable, ShortString},
};
use purista_core::DEFAULT_CONCURRENCY;
use purista_integration_tests::bench::{Contender, Stage};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    raw_calls::{Pending, TIME_LIMIT, publish},
    wire::{bind, connect, consume, declare_exclusive},
};

const NAME: &str = "raw-c";
const COMMANDS: &str = "raw-c.commands";
const RESPONSES: &str = "raw-c.responses";

/// How many responses ours acknowledges at once.
const ACKNOWLEDGED_AT_ONCE: u64 = 512;

/// Adds a caller and its service, which send what the bridge has sent.
pub(crate) async fn add(
    stage: &mut Stage,
    url: &str,
    in_flight: usize,
    command: Delivery,
    response: Delivery,
) -> anyhow::Result<()> {
    let (consuming, reply_channel) = connect(url).await?;
    for exchange in [COMMANDS, RESPONSES] {
        let (name, options) = (exchange.into(), Default::default());
        reply_channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default()).await?;
    }
    let replies = declare_exclusive(&reply_channel, "").await?;
    bind(&reply_channel, &replies, RESPONSES, response.routing_key.as_str(), FieldTable::default()).await?;
    reply_channel.basic_qos(u16::MAX, BasicQosOptions::default()).await?;
    let replies = consume(&reply_channel, replies, false).await?;
    let pending = Arc::new(Pending::default());
    stage.keep_task(tokio::spawn(read(replies, reply_channel, Arc::clone(&pending), consuming)));
    stage.keep_task(serve(url, command.routing_key.as_str(), response).await?);

    let (publishing, channel) = connect(url).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let caller = Arc::new((publishing, channel, pending, command));
    stage.add(Contender::of_calls(NAME, in_flight, move || {
        let caller = Arc::clone(&caller);
        async move {
            let (_, channel, pending, command) = &*caller;
            let (id, reply) = pending.call();
            let properties = command.properties.clone().with_correlation_id(id);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let key = command.routing_key.clone();
            let sent = channel.basic_publish(COMMANDS.into(), key, options, &command.data, properties);
            let confirmed = sent.await?;
            timeout(TIME_LIMIT, reply).await??;
            ensure!(confirmed.await? == Confirmation::Ack(None), "a command was returned");
            Ok(())
        }
    }));
    Ok(())
}

async fn read(
    mut replies: Consumer,
    channel: Channel,
    pending: Arc<Pending>,
    _connection: Connection,
) -> anyhow::Result<()> {
    while let Some(reply) = replies.next().await {
        let reply = reply?;
        pending.replied(&reply.properties)?;
        if reply.delivery_tag % ACKNOWLEDGED_AT_ONCE == 0 {
            acknowledge(&channel, reply.delivery_tag)?;
        }
    }
    Ok(())
}

/// Acknowledges all up to this one, without waiting until it is written.
pub(crate) fn acknowledge(channel: &Channel, tag: u64) -> anyhow::Result<()> {
    channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never().transpose()?;
    Ok(())
}

async fn serve(url: &str, key: &str, response: Delivery) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (consuming, channel) = connect(url).await?;
    let (publishing, answers) = connect(url).await?;
    answers.confirm_select(ConfirmSelectOptions::default()).await?;
    let queue = declare_exclusive(&channel, NAME).await?;
    bind(&channel, &queue, COMMANDS, key, FieldTable::default()).await?;
    channel.basic_qos(u16::try_from(DEFAULT_CONCURRENCY)?, BasicQosOptions::default()).await?;
    let mut requests = consume(&channel, queue, false).await?;
    Ok(tokio::spawn(async move {
        let _connections = (consuming, publishing);
        let to: ShortString = RESPONSES.into();
        while let Some(first) = requests.next().await {
            let mut next = Some(first);
            let mut last = 0;
            while let Some(request) = next {
                let request = request?;
                let id = request.properties.correlation_id().clone().context("no id")?;
                let properties = response.properties.clone().with_correlation_id(id);
                publish(&answers, to.clone(), response.routing_key.clone(), &response.data, properties)?;
                last = request.delivery_tag;
                next = requests.next().now_or_never().flatten();
            }
            acknowledge(&channel, last)?;
        }
        Ok(())
    }))
}
