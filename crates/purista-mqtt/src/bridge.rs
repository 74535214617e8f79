use std::sync::Arc;

use purista_core::{Result, adapter::Engine, forward_event_bridge};

use crate::{MqttBridgeBuilder, transport::MqttTransport};

/// The event bridge for MQTT 5 brokers.
#[derive(Debug)]
pub struct MqttBridge {
    pub(crate) engine: Arc<Engine<MqttTransport>>,
}

impl MqttBridge {
    /// Starts to configure a bridge. `servers` is one URL or several, separated by commas: `mqtt://host:1883`, `mqtts://` for
    /// an encrypted connection, `ws://` and `wss://` for one over WebSocket. The first one may name user and password.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder(servers: impl AsRef<str>) -> MqttBridgeBuilder {
        MqttBridgeBuilder::new(servers.as_ref())
    }

    /// Starts to configure a bridge by what the environment says, see [`MqttBridgeBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// As [`MqttBridgeBuilder::from_env`].
    pub fn from_env() -> Result<MqttBridgeBuilder> {
        MqttBridgeBuilder::from_env()
    }
}

forward_event_bridge!(impl EventBridge for MqttBridge { |bridge| bridge.engine });
