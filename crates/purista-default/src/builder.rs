use purista_core::{
    Result,
    adapter::{Engine, EngineConfig},
};

use crate::{DefaultEventBridge, Hub, transport::InProcess};

/// Configures a [`DefaultEventBridge`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct DefaultEventBridgeBuilder {
    hub: Hub,
    config: EngineConfig,
}

impl DefaultEventBridgeBuilder {
    /// Attaches the bridge to a hub that it shares with others; by default it has one of its own.
    pub fn hub(mut self, hub: &Hub) -> Self {
        self.hub = hub.clone();
        self
    }

    purista_core::engine_setters!(config);

    /// Creates the bridge, which is not started yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](purista_core::ErrorKind::InvalidConfig) if a limit of the bridge or its hub is zero,
    /// [`InvalidMessage`](purista_core::ErrorKind::InvalidMessage) if the instance id is empty or too long.
    pub fn build(self) -> Result<DefaultEventBridge> {
        self.hub.config().validate()?;
        Ok(DefaultEventBridge { engine: Engine::new(InProcess::new(self.hub), self.config)? })
    }
}
