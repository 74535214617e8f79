use crate::{NatsBridgeBuilder, transport::NatsTransport};

purista_core::adapter_bridge! {
    /// The event bridge for NATS.
    pub struct NatsBridge(NatsTransport);

    /// Starts to configure a bridge. `url` is one URL or several, separated by commas: `nats://host:4222`, or
    /// `tls://host:4222` for a connection that must be encrypted. The first one may name user and password.
    ///
    /// What each part of a URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder() -> NatsBridgeBuilder;
}
