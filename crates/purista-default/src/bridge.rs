use std::sync::Arc;

use purista_core::{adapter::Engine, forward_event_bridge};

use crate::{DefaultEventBridgeBuilder, Hub, transport::InProcess};

/// The event bridge within one process.
#[derive(Debug)]
pub struct DefaultEventBridge {
    pub(crate) engine: Arc<Engine<InProcess>>,
}

impl DefaultEventBridge {
    /// Starts to configure a bridge.
    pub fn builder() -> DefaultEventBridgeBuilder {
        DefaultEventBridgeBuilder::default()
    }

    /// Returns the hub that the bridge is attached to.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        self.engine.transport().hub()
    }
}

forward_event_bridge!(impl EventBridge for DefaultEventBridge { |bridge| bridge.engine });
