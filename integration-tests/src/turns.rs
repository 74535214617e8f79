use parking_lot::{Condvar, Mutex};

/// Limits how many do something at once.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A turn, which lasts until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(crate) const fn new(at_once: usize) -> Self {
        Self { free: Mutex::new(at_once), freed: Condvar::new() }
    }

    /// Blocks until it is this one's turn.
    pub(crate) fn take(&self) -> Turn<'_> {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}
