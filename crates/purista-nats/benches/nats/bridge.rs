use std::sync::Arc;

use purista_core::EventBridge as _;
use purista_nats::NatsBridge;

/// Connects a bridge with default options.
pub(crate) async fn bridge(url: &str, prefix: &str) -> anyhow::Result<Arc<NatsBridge>> {
    let bridge = NatsBridge::builder(url).prefix(prefix).build()?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}
