use std::{
    fmt,
    sync::{
        Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Link;
use crate::error::{Error, ErrorKind, Result};

/// What has to be restored before a connection counts as up again.
#[async_trait]
pub trait Restore: Send + Sync {
    /// Restores it on the new connection. Returns whether the broker had forgotten it.
    async fn restore(&self) -> Result<bool>;
}

/// Whether a connection is up, and what is restored when it comes back.
pub struct Connectivity {
    link: Link,
    bridge: &'static str,
    is_up: AtomicBool,
    up: watch::Sender<bool>,
    restored: Mutex<Vec<Weak<dyn Restore>>>,
    closing: CancellationToken,
    /// Ends the tasks of a connection that is dropped without a shutdown.
    _tasks: DropGuard,
}

impl Connectivity {
    /// Describes a connection of an adapter that is up, and ends for good when `closing` is cancelled.
    #[must_use]
    pub fn new(bridge: &'static str, link: Link, closing: CancellationToken) -> Self {
        Self {
            link,
            bridge,
            is_up: AtomicBool::new(true),
            up: watch::Sender::new(true),
            restored: Mutex::default(),
            _tasks: closing.clone().drop_guard(),
            closing,
        }
    }

    /// Returns the link to the engine.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Returns what is cancelled when the connection ends for good.
    pub const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Returns whether it is up.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Checks that it is up, for an operation that is tried again later.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not.
    pub fn check_up(&self, operation: &'static str) -> Result<()> {
        match self.is_up() {
            true => Ok(()),
            false => Err(self.lost(operation)),
        }
    }

    /// Says that it was lost, and what was sent over it with it.
    #[must_use]
    pub fn lost(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, operation)
            .with_bridge(self.bridge)
            .with_context("the connection was lost")
    }

    /// Waits until it is up. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](ErrorKind::ShutDown) once it never will be.
    pub async fn ready(&self) -> Result<()> {
        if self.is_up() {
            return Ok(());
        }
        let mut up = self.up.subscribe();
        tokio::select! {
            _up = up.wait_for(|up| *up) => Ok(()),
            () = self.closing.cancelled() => Err(Error::new(ErrorKind::ShutDown, "send").with_bridge(self.bridge)),
        }
    }

    /// Restores something each time that the connection was lost, as long as it is there.
    pub fn keep_restored(&self, what: Weak<dyn Restore>) {
        let mut restored = self.restored.lock();
        restored.retain(|known| known.strong_count() > 0);
        restored.push(what);
    }

    /// Returns what has to be restored.
    #[must_use]
    pub fn restored(&self) -> Vec<std::sync::Arc<dyn Restore>> {
        self.restored.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes that the connection is lost, and fails the calls that were sent over it.
    pub fn went_down(&self, reason: &str) {
        self.is_up.store(false, Ordering::Release);
        self.up.send_replace(false);
        self.link.fail_calls(&self.lost("invoke"));
        self.link.disconnected(reason);
    }

    /// Notes that it is up again and everything is restored.
    pub fn came_up(&self) {
        self.is_up.store(true, Ordering::Release);
        self.up.send_replace(true);
        self.link.connected();
    }
}

impl fmt::Debug for Connectivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectivity").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}
