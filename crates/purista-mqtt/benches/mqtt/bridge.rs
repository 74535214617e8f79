use std::{sync::Arc, time::Duration};

use purista_core::EventBridge as _;
use purista_mqtt::MqttBridge;

/// How long the broker keeps sessions, with anybody who has one.
pub(crate) const SESSION_EXPIRY: Duration = Duration::from_secs(60 * 60);

/// Connects a bridge with default options.
pub(crate) async fn bridge(url: &str, prefix: &str) -> anyhow::Result<Arc<MqttBridge>> {
    let bridge = MqttBridge::builder(url).prefix(prefix).build()?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}

/// Connects a bridge whose subscriptions are durable.
pub(crate) async fn durable_bridge(
    url: &str,
    prefix: &str,
    instance_id: String,
) -> anyhow::Result<Arc<MqttBridge>> {
    let bridge = MqttBridge::builder(url).prefix(prefix).instance_id(instance_id);
    let bridge = bridge.persistent_sessions(SESSION_EXPIRY).build()?;
    bridge.start().await?;
    Ok(Arc::new(bridge))
}
