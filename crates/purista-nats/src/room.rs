use std::sync::{Arc, Weak};

use async_nats::Subject;
use hashbrown::HashMap;
use parking_lot::Mutex;
use purista_core::{ErrorKind, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::error::error;

/// How many ask at once whether there is room.
const AT_ONCE: usize = 8;

/// Those who wait for room in a stream, in the order they came. The server has no such queue: without it, one who waits
/// may see others pass for ever.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<HashMap<String, Weak<Semaphore>>>);

/// The right to ask whether there is room.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Room {
    /// Returns whether anybody waits for room, in whatever stream.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// Waits behind those who wait for room, if there are any.
    pub(crate) async fn turn_behind_others(
        &self,
        subject: &Subject,
        deadline: Instant,
    ) -> Result<Option<Turn>> {
        let queue = {
            let mut queues = self.0.lock();
            queues.retain(|_, queue| queue.strong_count() > 0);
            queues.get(subject.as_str()).and_then(Weak::upgrade)
        };
        match queue {
            Some(queue) => wait(queue, deadline).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits for the turn of one who has found no room.
    pub(crate) async fn turn(&self, subject: &Subject, deadline: Instant) -> Result<Turn> {
        let queue = {
            let mut queues = self.0.lock();
            queues.retain(|_, queue| queue.strong_count() > 0);
            match queues.get(subject.as_str()).and_then(Weak::upgrade) {
                Some(queue) => queue,
                None => {
                    let queue = Arc::new(Semaphore::new(AT_ONCE));
                    queues.insert(subject.to_string(), Arc::downgrade(&queue));
                    queue
                }
            }
        };
        wait(queue, deadline).await
    }
}

async fn wait(queue: Arc<Semaphore>, deadline: Instant) -> Result<Turn> {
    match timeout_at(deadline, queue.acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) | Err(_) => {
            Err(error(ErrorKind::Backpressure, "emit").with_context("others wait for room in the stream"))
        }
    }
}
