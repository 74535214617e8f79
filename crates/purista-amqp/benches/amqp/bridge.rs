use std::sync::Arc;

use purista_amqp::AmqpBridge;
use purista_core::EventBridge as _;

/// How ours uses the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Native,
    TypeScript,
}

/// Connects a bridge with default options.
pub(crate) async fn bridge(url: &str, prefix: &str, topology: Topology) -> anyhow::Result<Arc<AmqpBridge>> {
    let builder = AmqpBridge::builder(url).prefix(prefix);
    let bridge = match topology {
        Topology::Native => builder.build()?,
        Topology::TypeScript => builder.typescript_topology().build()?,
    };
    bridge.start().await?;
    Ok(Arc::new(bridge))
}
