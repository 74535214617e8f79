//! The state of a bridge, and what keeps it from working.

use crate::message::ServiceAddress;

/// Where a bridge is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BridgeState {
    /// Not started yet.
    Created,
    /// Connecting and registering.
    Starting,
    /// In service.
    Started,
    /// Finishing what runs, taking nothing new.
    Draining,
    /// Ended: by its shutdown, or because the runtime on which it was started is gone.
    ShutDown,
}

/// The health of a bridge at one moment.
///
/// ```
/// use purista_core::{BridgeState, EventBridge as _};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// assert_eq!(bridge.health().state, BridgeState::Created);
/// bridge.start().await?;
/// let health = bridge.health();
/// assert!(health.is_ready() && health.is_healthy());
/// assert_eq!((health.not_consuming.len(), health.reason), (0, None));
/// bridge.shutdown(Duration::from_secs(10)).await;
/// assert!(!bridge.health().is_ready());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Where the bridge is in its life.
    pub state: BridgeState,
    /// Whether it is connected to its broker.
    pub connected: bool,
    /// The registrations that should be consuming and are not.
    pub not_consuming: Vec<ServiceAddress>,
    /// Why it is not connected: why the connection was lost, or why the last attempt to connect again failed. `None` while it
    /// is connected, and before it ever was.
    pub reason: Option<String>,
}

impl Health {
    /// Creates a report.
    #[must_use]
    pub const fn new(state: BridgeState, connected: bool, not_consuming: Vec<ServiceAddress>) -> Self {
        Self { state, connected, not_consuming, reason: None }
    }

    /// Adds why it is not connected.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Returns whether the bridge takes work: it is started and connected.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == BridgeState::Started && self.connected
    }

    /// Returns whether all is as it should be: connected and consuming, be it started or draining.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self.state, BridgeState::Started | BridgeState::Draining)
            && self.connected
            && self.not_consuming.is_empty()
    }
}
