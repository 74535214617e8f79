use purista_core::{
    Id, Result,
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

    /// Sets the id of this instance, unique on its hub; random by default.
    pub fn instance_id(mut self, instance_id: impl Into<Id>) -> Self {
        self.config.instance_id = Some(instance_id.into());
        self
    }

    /// Limits how many calls can be pending; 100,000 by default.
    pub const fn max_pending_calls(mut self, calls: usize) -> Self {
        self.config.max_pending_calls = calls;
        self
    }

    /// Limits names and ids that are sent or registered, in bytes; 255 by default.
    pub const fn max_identity_len(mut self, bytes: usize) -> Self {
        self.config.max_identity_len = bytes;
        self
    }

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
