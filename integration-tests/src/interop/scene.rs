use std::{fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use purista_conformance::{Collector, Latch, on_command, on_event};
use purista_core::{
    Command, CommandDraft, CommandHandler, CommandOptions, EventBridge, Filter, InvokeError, InvokeOptions,
    Message, ServiceAddress, Subscription, SubscriptionHandler, SubscriptionOptions,
};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};

use super::{frame::Frame, wire::Came};

/// How long anything may take that has no time limit of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the next message of a peer.
pub async fn next(came: &mut Came) -> Result<Frame> {
    let next =
        timeout(PATIENCE, came.next()).await.with_context(|| format!("nothing within {PATIENCE:?}"))?;
    next.context("the connection ended")
}

/// Fails if both are not the same, and says how they differ.
pub(super) fn same<T: PartialEq + Debug>(what: &str, came: &T, expected: &T) -> Result<()> {
    ensure!(came == expected, "{what}\n    came: {came:?}\nexpected: {expected:?}");
    Ok(())
}

/// Fails if it is no id.
pub(super) fn is_id(id: &Value) -> Result<()> {
    ensure!(id.as_str().is_some_and(|id| id.len() == 32), "{id} is no id");
    Ok(())
}

/// Waits until a condition holds that nothing tells of, such as a count.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut poll = interval(Duration::from_millis(5));
    while !holds() {
        if Instant::now() >= deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        poll.tick().await;
    }
    Ok(())
}

/// Returns the input as the result.
#[must_use]
pub fn echo() -> Arc<dyn CommandHandler> {
    on_command(|context| async move { Ok(context.message().payload().cloned()) })
}

/// Notes an event once it is let through.
#[must_use]
pub fn held(seen: &Arc<Collector>, latch: &Arc<Latch>) -> Arc<dyn SubscriptionHandler> {
    let (seen, latch) = (Arc::clone(seen), Arc::clone(latch));
    on_event(move |context| {
        let (seen, latch) = (Arc::clone(&seen), Arc::clone(&latch));
        async move {
            latch.pass().await;
            seen.record(&context);
            Ok(())
        }
    })
}

/// Serves a command.
pub(super) async fn serve(
    bridge: &dyn EventBridge,
    command: ServiceAddress,
    options: CommandOptions,
    handler: Arc<dyn CommandHandler>,
) -> Result<()> {
    bridge.register_command(Command::new(command).with_options(options), handler).await?;
    Ok(())
}

/// Invokes a command.
pub async fn invoke(bridge: &dyn EventBridge, draft: CommandDraft) -> Result<Arc<Message>, InvokeError> {
    invoke_within(bridge, draft, PATIENCE).await
}

/// Invokes a command with a time limit.
pub async fn invoke_within(
    bridge: &dyn EventBridge,
    draft: CommandDraft,
    limit: Duration,
) -> Result<Arc<Message>, InvokeError> {
    bridge.invoke_command(draft, &InvokeOptions::default().with_timeout(limit)).await
}

/// Makes a subscription that collects what it gets.
pub async fn watch(
    bridge: &dyn EventBridge,
    subscriber: &str,
    filter: Filter,
    options: SubscriptionOptions,
) -> purista_core::Result<Arc<Collector>> {
    let collector = Collector::new();
    let subscription = Subscription::new(("Watcher", "1", subscriber), filter).with_options(options);
    bridge.register_subscription(subscription, collector.handler()).await?;
    Ok(collector)
}

/// Keeps the order of messages.
#[must_use]
pub fn in_order() -> SubscriptionOptions {
    SubscriptionOptions::default().with_max_concurrency(1)
}
