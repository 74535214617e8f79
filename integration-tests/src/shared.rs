use std::sync::Arc;

use parking_lot::Mutex;

/// The broker that the trials of this process share.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Option<Arc<T>>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the broker; the first call starts it, others wait for that.
    pub(crate) fn get(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Arc<T>> {
        let mut slot = self.0.lock();
        if let Some(broker) = &*slot {
            return Ok(Arc::clone(broker));
        }
        Ok(Arc::clone(slot.insert(Arc::new(start()?))))
    }
}
