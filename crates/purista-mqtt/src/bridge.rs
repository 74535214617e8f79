use crate::{MqttBridgeBuilder, transport::MqttTransport};

purista_core::adapter_bridge! {
    /// The event bridge for MQTT 5 brokers.
    pub struct MqttBridge(MqttTransport);

    /// Starts to configure a bridge. `url` is one URL or several, separated by commas: `mqtt://host:1883`, `mqtts://` for
    /// an encrypted connection, `ws://` and `wss://` for one over WebSocket. The first one may name user and password.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder() -> MqttBridgeBuilder;
}
