use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much goes on beside one consumer at once.
const AT_ONCE: usize = 256;

/// Work beside the task of a consumer, such as a command that is passed on or an answer that there is no room: so much at
/// once, whatever a peer sends.
#[derive(Clone, Debug)]
pub struct Beside(Arc<Semaphore>);

impl Default for Beside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Beside {
    /// Returns the right to do one thing, `None` if as many are done already as may be.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Turn)
    }
}

/// The right to do one thing beside the task of a consumer.
#[derive(Debug)]
pub struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// Does it on a task of its own.
    pub fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
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
