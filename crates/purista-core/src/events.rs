//! What happens to a bridge, for those who watch it.

use tokio::sync::broadcast;

use crate::message::ServiceAddress;

/// Something that happened to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeEvent {
    /// The bridge is connected; after a loss, all registrations are consuming again.
    Connected,
    /// The connection was lost, with the reason.
    Disconnected(String),
    /// The broker forgot the session; what waited in it is gone.
    SessionLost,
    /// A registration stopped consuming while the connection lives.
    ConsumerDown(ServiceAddress),
    /// The registration consumes again.
    ConsumerUp(ServiceAddress),
    /// The bridge stopped taking work.
    Draining,
    /// The bridge shut down.
    ShutDown,
}

/// The events of a bridge from the moment it was asked for them.
#[derive(Debug)]
pub struct BridgeEvents(pub(crate) broadcast::Receiver<BridgeEvent>);

impl BridgeEvents {
    /// Returns the next event, `None` after the bridge is gone. A reader that is more than 64 events late misses the
    /// oldest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<BridgeEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
