use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Delivery, Intake, Slot, Stop, Transport, beside::Beside};
use crate::error::Result;

/// A message that a broker handed over without waiting for an acknowledgement, and that waits for a handler in a [`Backlog`].
pub trait Pushed<T: Transport>: Send + Sized + 'static {
    /// The connection that it came over.
    type Connection: Send + Sync + 'static;

    /// Returns how many bytes it counts for.
    fn size(&self) -> usize;

    /// Makes the delivery of it.
    fn into_delivery(self) -> Delivery<T::ReplyTo>;

    /// Returns whether somebody waits for an answer.
    fn has_caller(&self) -> bool {
        true
    }

    /// Tells its caller that there is no room for it.
    ///
    /// # Errors
    ///
    /// If the answer cannot be sent.
    fn answer_unavailable(
        self,
        connection: Arc<Self::Connection>,
    ) -> impl Future<Output = Result<()>> + Send + 'static;
}

/// What waits in this process for a handler, within bounds: where a broker hands messages over as they come.
pub struct Backlog<T: Transport, I: Pushed<T>> {
    connection: Arc<I::Connection>,
    intake: Intake<T>,
    queue: Mutex<Queue<I>>,
    woken: Notify,
    passing_on: Beside,
    answering: Beside,
}

impl<T: Transport, I: Pushed<T>> Backlog<T, I> {
    /// Creates room for so many items, and for so many bytes.
    #[must_use]
    pub fn new(
        connection: Arc<I::Connection>,
        intake: Intake<T>,
        max_items: usize,
        max_bytes: usize,
    ) -> Arc<Self> {
        let queue = Queue { items: VecDeque::new(), bytes: 0, max_items, max_bytes };
        Arc::new(Self {
            connection,
            intake,
            queue: Mutex::new(queue),
            woken: Notify::new(),
            passing_on: Beside::default(),
            answering: Beside::default(),
        })
    }

    /// Takes an item over, and delivers what came first if a handler is free. If there is no room for it, it is counted, and
    /// its caller is told.
    pub fn accept(&self, item: I) {
        if self.push(item)
            && let Ok(slot) = self.intake.try_slot()
        {
            self.deliver(slot);
        }
    }

    /// Passes an item on to whom it is meant for, on a task of its own. `pass` returns it if nobody takes it, and then it
    /// waits here. What is more than 256 at once counts as no room.
    pub fn pass_on<F>(self: &Arc<Self>, item: I, pass: impl FnOnce(I) -> F + Send + 'static)
    where
        F: Future<Output = Option<I>> + Send + 'static,
    {
        let Some(turn) = self.passing_on.turn() else { return self.overflow(item) };
        let backlog = Arc::clone(self);
        turn.spawn(async move {
            if let Some(item) = pass(item).await
                && backlog.push(item)
            {
                backlog.woken.notify_one();
            }
        });
    }

    /// Waits until an item is there and a handler is free for it, and delivers it. Returns whether the registration takes more
    /// work.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, but the place in the queue for a handler is lost.
    pub async fn deliver_next(&self) -> bool {
        while self.len() == 0 {
            self.woken.notified().await;
        }
        let slot = self.intake.slot().await;
        slot.map(|slot| self.deliver(slot)).is_some()
    }

    /// Takes the item that came first.
    pub fn pop(&self) -> Option<I> {
        self.queue.lock().pop()
    }

    /// Puts an item back at the front.
    pub fn put_back(&self, item: I) {
        let size = item.size();
        self.queue.lock().put_back(item, size);
    }

    /// Ends what waits, when nothing more comes: before a shutdown each item is delivered; after the end of a registration
    /// each is given up, and its caller is told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what waits still is dropped with this.
    pub async fn finish(&self, why: Stop) {
        if why == Stop::Unregistered {
            self.intake.abandoned(self.len());
            while let Some(item) = self.pop() {
                self.give_up(item);
            }
        }
        while self.len() > 0 && self.deliver_next().await {}
    }

    /// Returns whether there is room for it.
    fn push(&self, item: I) -> bool {
        let size = item.size();
        let refused = self.queue.lock().push(item, size);
        refused.map_err(|item| self.overflow(item)).is_ok()
    }

    fn deliver(&self, slot: Slot) {
        if let Some(item) = self.pop() {
            self.intake.deliver(slot, item.into_delivery());
        }
    }

    fn overflow(&self, item: I) {
        self.intake.overflowed();
        self.give_up(item);
    }

    fn give_up(&self, item: I) {
        // Who is not told hears of it by its time limit.
        let Some(turn) = self.answering.turn().filter(|_| item.has_caller()) else { return };
        let answer = item.answer_unavailable(Arc::clone(&self.connection));
        turn.spawn(async {
            if let Err(error) = answer.await {
                tracing::debug!(%error, "a caller could not be told that there is no room");
            }
        });
    }

    fn len(&self) -> usize {
        self.queue.lock().items.len()
    }
}

impl<T: Transport, I: Pushed<T>> fmt::Debug for Backlog<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("len", &self.len()).finish_non_exhaustive()
    }
}

struct Queue<I> {
    /// Each with its size.
    items: VecDeque<(I, usize)>,
    bytes: usize,
    max_items: usize,
    max_bytes: usize,
}

impl<I> Queue<I> {
    fn push(&mut self, item: I, size: usize) -> Result<(), I> {
        let total = self.bytes + size;
        if self.items.len() >= self.max_items || total > self.max_bytes {
            return Err(item);
        }
        self.bytes = total;
        self.items.push_back((item, size));
        Ok(())
    }

    fn pop(&mut self) -> Option<I> {
        let (item, size) = self.items.pop_front()?;
        self.bytes -= size;
        Some(item)
    }

    fn put_back(&mut self, item: I, size: usize) {
        self.bytes += size;
        self.items.push_front((item, size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_order_is_kept() {
        let mut queue = Queue { items: VecDeque::new(), bytes: 0, max_items: 2, max_bytes: 10 };
        queue.push('a', 6).unwrap();
        assert_eq!(queue.push('b', 5), Err('b'));
        queue.push('c', 4).unwrap();
        assert_eq!(queue.push('d', 0), Err('d'));
        assert_eq!(queue.pop(), Some('a'));
        queue.put_back('a', 6);
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some('a'), Some('c'), None]);
        queue.push('e', 10).unwrap();
    }
}
