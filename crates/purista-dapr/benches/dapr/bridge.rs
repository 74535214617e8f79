use std::sync::Arc;

use purista_core::{Capability, EventBridge as _};
use purista_dapr::DaprBridge;
use purista_integration_tests::bench::{Handled, ours};

/// What the RabbitMQ component gives as it is configured.
const GIVES: [Capability; 3] =
    [Capability::DurableSubscriptions, Capability::BrokerConfirm, Capability::ManualAcknowledgement];

/// Connects a bridge with default options that only sends.
pub(crate) async fn sender(sidecar: &str) -> anyhow::Result<Arc<DaprBridge>> {
    let bridge = DaprBridge::builder(sidecar).build()?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}

/// Connects a bridge with default options that serves the command of all.
pub(crate) async fn service(sidecar: &str) -> anyhow::Result<Arc<DaprBridge>> {
    let bridge = DaprBridge::builder(sidecar).build()?;
    ours::serve(&bridge, ours::echo()).await?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}

/// Connects a bridge that consumes the event of all from a durable component, so many at once.
pub(crate) async fn consumer(
    sidecar: &str,
    handled: &Arc<Handled>,
    max_concurrency: usize,
) -> anyhow::Result<Arc<DaprBridge>> {
    let bridge = DaprBridge::builder(sidecar).component_gives(GIVES).build()?;
    ours::subscribe(&bridge, handled, max_concurrency).await?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}
