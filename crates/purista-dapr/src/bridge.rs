use crate::{DaprBridgeBuilder, transport::DaprTransport};

purista_core::adapter_bridge! {
    /// The event bridge for Dapr sidecars.
    pub struct DaprBridge(DaprTransport);

    /// Starts to configure a bridge beside a sidecar: `dapr://127.0.0.1:3500`, its HTTP port. `http://127.0.0.1:3500` means
    /// the same.
    ///
    /// What each part of the URL means, and which are refused, is in the documentation of this crate, under *URLs*.
    pub fn builder() -> DaprBridgeBuilder;
}
