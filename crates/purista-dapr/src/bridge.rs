use std::sync::Arc;

use purista_core::{Result, adapter::Engine, forward_event_bridge};

use crate::{DaprBridgeBuilder, transport::DaprTransport};

/// The event bridge for Dapr sidecars.
#[derive(Debug)]
pub struct DaprBridge {
    pub(crate) engine: Arc<Engine<DaprTransport>>,
}

impl DaprBridge {
    /// Starts to configure a bridge beside a sidecar: `dapr://127.0.0.1:3500`, its HTTP port. `http://127.0.0.1:3500` means
    /// the same.
    ///
    /// What each part of the URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder(sidecar: impl AsRef<str>) -> DaprBridgeBuilder {
        DaprBridgeBuilder::new(sidecar.as_ref())
    }

    /// Starts to configure a bridge by what the environment says, see [`DaprBridgeBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// As [`DaprBridgeBuilder::from_env`].
    pub fn from_env() -> Result<DaprBridgeBuilder> {
        DaprBridgeBuilder::from_env()
    }
}

forward_event_bridge!(impl EventBridge for DaprBridge { |bridge| bridge.engine });
