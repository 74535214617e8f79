use std::sync::Arc;

use purista_core::{Result, adapter::Engine, forward_event_bridge};

use crate::{NatsBridgeBuilder, transport::NatsTransport};

/// The event bridge for NATS.
#[derive(Debug)]
pub struct NatsBridge {
    pub(crate) engine: Arc<Engine<NatsTransport>>,
}

impl NatsBridge {
    /// Starts to configure a bridge. `servers` is one URL or several, separated by commas: `nats://host:4222`, or
    /// `tls://host:4222` for a connection that must be encrypted. The first one may name user and password.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder(servers: impl AsRef<str>) -> NatsBridgeBuilder {
        NatsBridgeBuilder::new(servers.as_ref())
    }

    /// Starts to configure a bridge by what the environment says, see [`NatsBridgeBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// As [`NatsBridgeBuilder::from_env`].
    pub fn from_env() -> Result<NatsBridgeBuilder> {
        NatsBridgeBuilder::from_env()
    }
}

forward_event_bridge!(impl EventBridge for NatsBridge { |bridge| bridge.engine });
