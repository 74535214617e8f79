use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts what was handled, and tells when a number is reached.
#[derive(Debug)]
pub struct Handled {
    count: AtomicU64,
    awaited: AtomicU64,
    reached: Notify,
}

impl Default for Handled {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), awaited: AtomicU64::new(u64::MAX), reached: Notify::new() }
    }
}

impl Handled {
    /// Counts one more.
    pub fn one_more(&self) {
        if self.count.fetch_add(1, Ordering::SeqCst) + 1 >= self.awaited.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until so many were handled since the beginning.
    pub async fn reach(&self, count: u64) {
        self.awaited.store(count, Ordering::SeqCst);
        while self.count() < count {
            self.reached.notified().await;
        }
        self.awaited.store(u64::MAX, Ordering::SeqCst);
    }
}
