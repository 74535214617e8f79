//! What the bridge puts on the wire, for the raw client to send the very same.

use anyhow::Context as _;
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;

/// Listens to what a bridge with a prefix sends.
#[derive(Debug)]
pub(crate) struct Wire(Subscriber);

impl Wire {
    pub(crate) async fn listen(client: &Client, prefix: &str, what: &str) -> anyhow::Result<Self> {
        let subscriber = client.subscribe(format!("{prefix}.{what}.>")).await?;
        round_trip(client).await?;
        Ok(Self(subscriber))
    }

    /// Returns the next message that was sent.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Message> {
        self.0.next().await.context("the connection is closed")
    }
}

/// Waits until the server has done all that was sent before.
pub(crate) async fn round_trip(client: &Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    own.next().await.context("the connection is closed")?;
    Ok(())
}

/// Returns a subject under another prefix.
pub(crate) fn with_prefix(prefix: &str, subject: &str) -> String {
    let tail = subject.split_once('.').map_or("", |(_, tail)| tail);
    format!("{prefix}.{tail}")
}
