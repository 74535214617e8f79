use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use purista_core::{CommandDraft, EventBridge, EventBridgeExt as _, InvokeOptions, Payload, ServiceAddress};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{interval, timeout};

use crate::brokers::bridge;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Who calls the worker, in this process: its names and its clock stay as they are.
pub(crate) struct Peer(pub(crate) Arc<dyn EventBridge>);

impl Peer {
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let bridge = bridge(url, None)?;
        bridge.start().await?;
        Ok(Self(bridge))
    }

    /// Calls a command of the worker once.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        target: &str,
        input: &(impl Serialize + Sync),
    ) -> anyhow::Result<T> {
        self.ask_within(target, input, Duration::from_secs(10)).await
    }

    pub(crate) async fn ask_within<T: DeserializeOwned>(
        &self,
        target: &str,
        input: &(impl Serialize + Sync),
        limit: Duration,
    ) -> anyhow::Result<T> {
        let draft = CommandDraft::new(ServiceAddress::client(), ("Worker", "1", target));
        let draft = draft.with_payload(Payload::json(input)?);
        let options = InvokeOptions::default().with_timeout(limit);
        let answer = self.0.invoke_command(draft, &options).await?;
        Ok(serde_json::from_str(answer.payload().context("an answer without payload")?.as_str())?)
    }

    /// Calls the worker until it answers.
    pub(crate) async fn until_answered(&self) -> anyhow::Result<()> {
        let mut tick = interval(Duration::from_millis(100));
        let mut last = None;
        let answered = async {
            loop {
                tick.tick().await;
                match self.ask_within::<u32>("echo", &7, Duration::from_secs(1)).await {
                    Ok(_) => return,
                    Err(error) => last = Some(error),
                }
            }
        };
        let answered = timeout(PATIENCE, answered).await;
        answered.with_context(|| format!("no answer, last {last:?}"))
    }
}

/// Emits with the help of the extension, which a trait object needs the import for.
pub(crate) async fn emit(bridge: &dyn EventBridge, event: &str, payload: u32) -> anyhow::Result<()> {
    Ok(bridge.emit(event, &payload).await.map(drop)?)
}
