use crate::{AmqpBridgeBuilder, transport::AmqpTransport};

purista_core::adapter_bridge! {
    /// The event bridge for RabbitMQ.
    pub struct AmqpBridge(AmqpTransport);

    /// Starts to configure a bridge. `url` is one URL or several, separated by commas: `amqp://host:5672/vhost`, or
    /// `amqps://host:5671/vhost` for a connection that is encrypted. The first one says user, password and vhost.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder() -> AmqpBridgeBuilder;
}
