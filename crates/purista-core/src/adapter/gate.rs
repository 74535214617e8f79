use std::sync::Arc;

use super::sync::{AtomicUsize, Notify, Ordering};

const CLOSED: usize = 1;
const ONE: usize = 2;

/// Counts what is inside, lets nothing in once it is closed, and tells when it is empty.
///
/// It is the latch that drains handlers and calls. Its interleavings are model-checked.
#[derive(Debug)]
pub struct Gate {
    /// The count above one bit that says whether the gate is closed.
    state: AtomicUsize,
    emptied: Notify,
}

/// Something inside a [`Gate`]; dropping it leaves.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Gate {
    /// Creates an open, empty gate.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: AtomicUsize::new(0), emptied: Notify::new() })
    }

    /// Goes in, unless the gate is closed.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
        let open_plus_one = |state: usize| (state & CLOSED == 0).then_some(state + ONE);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, open_plus_one).ok()?;
        Some(Pass(Arc::clone(self)))
    }

    /// Lets nothing in any more. What is inside stays until it leaves.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Returns how much is inside.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.load(Ordering::Acquire) / ONE
    }

    /// Waits until nothing is inside. If the gate is open, something may have entered when this returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn empty(&self) {
        loop {
            // No notification after this is missed, polled or not; only now is it safe to look.
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let before = self.0.state.fetch_sub(ONE, Ordering::AcqRel);
        if before / ONE == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
