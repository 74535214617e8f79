//! The raw side of acknowledged events.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, ensure};
use async_nats::{
    HeaderMap, Subject,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        consumer::{PullConsumer, pull},
        stream,
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use purista_integration_tests::bench::{Consumed, Handled};
use tokio::task::JoinHandle;

/// How many messages one pull request asks for. 200, the client's default, and 5,000 made no difference.
pub(crate) const BATCH: usize = 500;

/// Publishes events with message ids, and waits for their acknowledgement.
#[derive(Debug)]
pub(crate) struct Publisher {
    context: jetstream::Context,
    subject: Subject,
    payload: Bytes,
    next: AtomicU64,
}

impl Publisher {
    pub(crate) async fn connect(url: &str, subject: &str, payload: Bytes) -> anyhow::Result<Self> {
        let context = jetstream::new(async_nats::connect(url).await?);
        Ok(Self { context, subject: subject.into(), payload, next: AtomicU64::new(0) })
    }

    pub(crate) async fn publish(&self) -> anyhow::Result<()> {
        let mut headers = HeaderMap::new();
        // As long as an id of ours.
        headers.insert(NATS_MESSAGE_ID, format!("{:032x}", self.next.fetch_add(1, Ordering::Relaxed)));
        let publish = self.context.publish_with_headers(self.subject.clone(), headers, self.payload.clone());
        let acknowledgement = publish.await?.await?;
        ensure!(!acknowledgement.duplicate, "an id was used twice");
        Ok(())
    }
}

/// Starts to consume; acknowledges each message after it was handled.
pub(crate) async fn consume(
    url: &str,
    stream: &str,
    consumer: &str,
    handled: &Arc<Handled>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let context = jetstream::new(async_nats::connect(url).await?);
    let consumer = find_consumer(&context, stream, consumer).await?;
    let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await?;
    let handled = Arc::clone(handled);
    Ok(tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let message = message?;
            handled.one_more();
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
        }
        Ok(())
    }))
}

/// Creates a stream with the configuration of another one, but for its subjects.
pub(crate) async fn copy_stream(
    context: &jetstream::Context,
    config: &stream::Config,
    name: &str,
    subjects: Vec<String>,
) -> anyhow::Result<()> {
    let config = stream::Config { name: name.to_owned(), subjects, ..config.clone() };
    context.create_stream(config).await?;
    Ok(())
}

/// Creates a consumer with the configuration of another one, but for its subject.
pub(crate) async fn copy_consumer(
    context: &jetstream::Context,
    config: &pull::Config,
    stream: &str,
    filter_subject: String,
) -> anyhow::Result<()> {
    let stream = context.get_stream(stream).await?;
    stream.create_consumer(pull::Config { filter_subject, ..config.clone() }).await?;
    Ok(())
}

/// Returns the only consumer of a stream.
pub(crate) async fn only_consumer(context: &jetstream::Context, stream: &str) -> anyhow::Result<String> {
    let stream = context.get_stream(stream).await?;
    let name = stream.consumer_names().next().await.context("the stream has no consumer")??;
    Ok(name)
}

pub(crate) async fn find_consumer(
    context: &jetstream::Context,
    stream: &str,
    consumer: &str,
) -> anyhow::Result<PullConsumer> {
    let stream = context.get_stream(stream).await?;
    stream.get_consumer(consumer).await.map_err(anyhow::Error::from_boxed)
}

/// A round ends when the server has all acknowledgements.
pub(crate) fn consumed(handled: Arc<Handled>, consumer: PullConsumer) -> Consumed {
    Consumed::new(handled, move || settle(consumer.clone()))
}

/// Waits until the server has all acknowledgements. Each question goes there and back, so this does not spin.
async fn settle(mut consumer: PullConsumer) -> anyhow::Result<()> {
    loop {
        let info = consumer.info().await?;
        ensure!(info.num_redelivered == 0, "{} messages came again", info.num_redelivered);
        if info.num_pending == 0 && info.num_ack_pending == 0 {
            return Ok(());
        }
    }
}
