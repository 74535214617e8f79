use std::sync::Arc;

use purista_core::{Result, adapter::Engine, forward_event_bridge};

use crate::{AmqpBridgeBuilder, transport::AmqpTransport};

/// The event bridge for RabbitMQ.
#[derive(Debug)]
pub struct AmqpBridge {
    pub(crate) engine: Arc<Engine<AmqpTransport>>,
}

impl AmqpBridge {
    /// Starts to configure a bridge. `servers` is one URL or several, separated by commas: `amqp://host:5672/vhost`, or
    /// `amqps://host:5671/vhost` for a connection that is encrypted. The first one says user, password and vhost.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder(servers: impl AsRef<str>) -> AmqpBridgeBuilder {
        AmqpBridgeBuilder::new(servers.as_ref())
    }

    /// Starts to configure a bridge by what the environment says, see [`AmqpBridgeBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// As [`AmqpBridgeBuilder::from_env`].
    pub fn from_env() -> Result<AmqpBridgeBuilder> {
        AmqpBridgeBuilder::from_env()
    }
}

forward_event_bridge!(impl EventBridge for AmqpBridge { |bridge| bridge.engine });
