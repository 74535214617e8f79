use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much goes on beside one consumer at once.
const AT_ONCE: usize = 256;

/// Limits the tasks that one consumer spawns, whatever a peer sends: tasks that pass a command on, or answer that there is
/// no room.
#[derive(Clone, Debug)]
pub(super) struct Beside(Arc<Semaphore>);

impl Default for Beside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Beside {
    /// Returns the right to spawn one task; `None` if the limit is reached.
    pub(super) fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Turn)
    }
}

/// The right to spawn one task beside that of a consumer.
#[derive(Debug)]
pub(super) struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// Spawns the task.
    pub(super) fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(async move {
            let _turn = self.0;
            work.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn as_many_as_may_be_and_no_more() {
        let beside = Beside::default();
        for _ in 0..AT_ONCE - 1 {
            beside.turn().unwrap().spawn(pending());
        }
        let last = beside.turn().unwrap();
        assert!(beside.turn().is_none());
        drop(last);
        let (done, over) = tokio::sync::oneshot::channel();
        beside.turn().unwrap().spawn(async { done.send(()).unwrap() });
        assert!(beside.turn().is_none());
        over.await.unwrap();
        // The turn ends right after the work.
        while beside.turn().is_none() {
            tokio::task::yield_now().await;
        }
    }
}
