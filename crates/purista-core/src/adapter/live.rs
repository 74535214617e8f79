use std::{fmt, ops::Deref, sync::Arc};

use parking_lot::RwLock;

use super::Connectivity;
use crate::error::{Error, ErrorKind, Result};

/// The connection of a transport, from its `connect` to its `disconnect`.
///
/// If the bridge is dropped without a shutdown, the connection is [closed](Connectivity::closing), so that no consumer stays.
pub struct Live<C: Deref<Target = Connectivity>> {
    bridge: &'static str,
    connection: RwLock<Option<Arc<C>>>,
}

impl<C: Deref<Target = Connectivity>> Live<C> {
    /// Creates room for a connection of an adapter.
    #[must_use]
    pub const fn new(bridge: &'static str) -> Self {
        Self { bridge, connection: RwLock::new(None) }
    }

    /// Keeps the connection.
    pub fn set(&self, connection: Arc<C>) {
        *self.connection.write() = Some(connection);
    }

    /// Looks at the connection, if it is there.
    pub fn with<R>(&self, look: impl FnOnce(Option<&C>) -> R) -> R {
        look(self.connection.read().as_deref())
    }

    /// Returns the connection.
    ///
    /// # Errors
    ///
    /// [`NotStarted`](ErrorKind::NotStarted) if it is not there.
    pub fn connection(&self) -> Result<Arc<C>> {
        let connection = self.connection.read().clone();
        connection.ok_or_else(|| Error::new(ErrorKind::NotStarted, "send").with_bridge(self.bridge))
    }

    /// Takes the connection, to end it.
    pub fn take(&self) -> Option<Arc<C>> {
        self.connection.write().take()
    }
}

impl<C: Deref<Target = Connectivity>> Drop for Live<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.get_mut() {
            connection.closing().cancel();
        }
    }
}

impl<C: Deref<Target = Connectivity> + fmt::Debug> fmt::Debug for Live<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&*self.connection.read()).finish()
    }
}
