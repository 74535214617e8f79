use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Intake, Slot, Stop, Transport};

/// What waits in this process for a handler, within bounds: where a broker hands messages over as they come.
#[derive(Debug)]
pub struct Backlog<I> {
    waiting: Mutex<Waiting<I>>,
    woken: Notify,
    max_items: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Waiting<I> {
    /// Each with its size.
    items: VecDeque<(I, usize)>,
    bytes: usize,
}

impl<I> Backlog<I> {
    /// Creates room for so many items, and for so many bytes.
    #[must_use]
    pub fn new(max_items: usize, max_bytes: usize) -> Self {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), bytes: 0 });
        Self { waiting, woken: Notify::new(), max_items, max_bytes }
    }

    /// Adds an item of so many bytes at the end.
    ///
    /// # Errors
    ///
    /// The item, if there is no room for it.
    pub fn push(&self, item: I, bytes: usize) -> Result<(), I> {
        let mut waiting = self.waiting.lock();
        let total = waiting.bytes + bytes;
        if waiting.items.len() >= self.max_items || total > self.max_bytes {
            return Err(item);
        }
        waiting.bytes = total;
        waiting.items.push_back((item, bytes));
        Ok(())
    }

    /// Takes the item that came first.
    pub fn pop(&self) -> Option<I> {
        let mut waiting = self.waiting.lock();
        let (item, bytes) = waiting.items.pop_front()?;
        waiting.bytes -= bytes;
        Some(item)
    }

    /// Puts an item of so many bytes back at the front.
    pub fn put_back(&self, item: I, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += bytes;
        waiting.items.push_front((item, bytes));
    }

    /// Ends what waits, when nothing more comes: before a shutdown each item is delivered, which takes it; after the end of
    /// a registration each is given up.
    pub async fn finish<T: Transport>(
        &self,
        why: Stop,
        intake: &Intake<T>,
        deliver: impl Fn(Slot) + Send,
        give_up: impl Fn(I) + Send,
    ) {
        if why == Stop::Unregistered {
            intake.abandoned(self.len());
            while let Some(item) = self.pop() {
                give_up(item);
            }
        }
        while !self.is_empty() {
            match intake.slot().await {
                Some(slot) => deliver(slot),
                None => return,
            }
        }
    }

    /// Returns how many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }

    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes who waits in [`woken`](Self::woken), after somebody else has added something.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits for [`wake`](Self::wake). Cancel safe.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_order_is_kept() {
        let backlog = Backlog::new(2, 10);
        backlog.push('a', 6).unwrap();
        assert_eq!(backlog.push('b', 5), Err('b'));
        backlog.push('c', 4).unwrap();
        assert_eq!(backlog.push('d', 0), Err('d'));
        assert_eq!(backlog.pop(), Some('a'));
        backlog.put_back('a', 6);
        assert_eq!([backlog.pop(), backlog.pop(), backlog.pop()], [Some('a'), Some('c'), None]);
        assert!(backlog.is_empty());
        backlog.push('e', 10).unwrap();
    }
}
