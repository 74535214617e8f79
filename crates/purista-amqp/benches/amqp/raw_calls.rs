//! Requests and replies as RabbitMQ does them fastest.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Connection, Consumer, options::BasicPublishOptions, types::ShortString,
};
use parking_lot::Mutex;
use purista_integration_tests::bench::{Contender, Stage};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::wire::{connect, consume, declare_exclusive};

/// The pseudo-queue by which answers go straight to the channel that asked.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// How long a call may take, as with ours.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The calls that wait for their replies.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Pending {
    /// Notes a call; returns its id, which is as long as one of ours, and its reply.
    pub(crate) fn call(&self) -> (ShortString, oneshot::Receiver<()>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        (format!("{id:032x}").into(), reply)
    }

    /// Hands a reply to its call.
    pub(crate) fn replied(&self, properties: &BasicProperties) -> anyhow::Result<()> {
        let id = properties.correlation_id().as_ref().context("a reply to nothing")?;
        let waiting = self.waiting.lock().remove(&u64::from_str_radix(id.as_str(), 16)?);
        // Who has given up does not listen.
        let _given_up = waiting.context("a second reply")?.send(());
        Ok(())
    }
}

/// Publishes without waiting until it is written.
pub(crate) fn publish(
    channel: &Channel,
    exchange: ShortString,
    key: ShortString,
    payload: &[u8],
    properties: BasicProperties,
) -> anyhow::Result<()> {
    let options = BasicPublishOptions::default();
    // It is queued when it is polled for the first time.
    let queued = channel.basic_publish(exchange, key, options, payload, properties).now_or_never();
    queued.transpose()?;
    Ok(())
}

/// Adds a caller and its service: many calls in flight, or one by one.
pub(crate) async fn add(
    stage: &mut Stage,
    name: &'static str,
    url: &str,
    in_flight: usize,
    [request, reply]: [Bytes; 2],
) -> anyhow::Result<()> {
    stage.keep_task(serve(url, name, reply).await?);
    let (connection, channel) = connect(url).await?;
    let pending = Arc::new(Pending::default());
    let replies = consume(&channel, REPLY_TO.into(), true).await?;
    stage.keep_task(tokio::spawn(read(replies, Arc::clone(&pending), connection)));
    let caller = Arc::new((channel, pending, request));
    stage.add(Contender::of_calls(name, in_flight, move || {
        let caller = Arc::clone(&caller);
        async move {
            let (channel, pending, request) = &*caller;
            let (id, reply) = pending.call();
            let properties =
                BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(id);
            publish(channel, ShortString::default(), name.into(), request, properties)?;
            timeout(TIME_LIMIT, reply).await??;
            Ok(())
        }
    }));
    Ok(())
}

async fn read(mut replies: Consumer, pending: Arc<Pending>, _connection: Connection) -> anyhow::Result<()> {
    while let Some(reply) = replies.next().await {
        pending.replied(&reply?.properties)?;
    }
    Ok(())
}

/// Answers in one loop, which waits for nothing.
async fn serve(url: &str, queue: &str, reply: Bytes) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (connection, channel) = connect(url).await?;
    let queue = declare_exclusive(&channel, queue).await?;
    let mut requests = consume(&channel, queue, true).await?;
    Ok(tokio::spawn(async move {
        let _connection = connection;
        while let Some(request) = requests.next().await {
            let asked = request?.properties;
            let to = asked.reply_to().clone().context("nobody wants a reply")?;
            let id = asked.correlation_id().clone().context("no id")?;
            let properties = BasicProperties::default().with_correlation_id(id);
            publish(&channel, ShortString::default(), to, &reply, properties)?;
        }
        Ok(())
    }))
}
