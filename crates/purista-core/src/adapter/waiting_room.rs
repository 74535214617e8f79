//! Where messages wait for their next attempt without keeping a handler from others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many messages of one registration have room here. The bytes of small ones hardly count, what is kept about each
/// of them does.
const MAX_MESSAGES: usize = 16_384;

/// How many bytes of messages of one registration have room here.
const MAX_BYTES: u32 = 64 * 1_024 * 1_024;

/// Room for the messages of one registration that wait for their next attempt.
///
/// It is bounded by number and by bytes. A message without room waits in its handler's place, and so fewer others are
/// taken from the broker: when everything fails, as something that all need is down, the queue is to wait at the broker,
/// and not to use its attempts up.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The place of one message; dropping it leaves.
#[derive(Debug)]
pub(super) struct WaitingPermit {
    _message: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl WaitingRoom {
    pub(super) fn new() -> Self {
        Self {
            messages: Arc::new(Semaphore::new(MAX_MESSAGES)),
            bytes: Arc::new(Semaphore::new(MAX_BYTES as usize)),
        }
    }

    /// Waits for room for a message of so many bytes; at once if there is some. One that is larger than the whole room
    /// waits until it is alone.
    pub(super) async fn enter(&self, bytes: usize) -> Option<WaitingPermit> {
        let bytes = u32::try_from(bytes).map_or(MAX_BYTES, |bytes| bytes.min(MAX_BYTES));
        // Nothing closes them.
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await.ok()?;
        Some(WaitingPermit { _message: message, _bytes: bytes })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn enter(room: &WaitingRoom, bytes: usize) -> Option<WaitingPermit> {
        room.enter(bytes).now_or_never().flatten()
    }

    #[test]
    fn so_many_messages_have_room() {
        let room = WaitingRoom::new();
        let mut inside: Vec<_> = (0..MAX_MESSAGES).map(|_| enter(&room, 100).unwrap()).collect();
        assert!(enter(&room, 0).is_none());
        inside.pop();
        assert!(enter(&room, 0).is_some());
    }

    #[test]
    fn so_many_bytes_have_room() {
        let room = WaitingRoom::new();
        let half = MAX_BYTES as usize / 2;
        let inside = [enter(&room, half).unwrap(), enter(&room, half).unwrap()];
        assert!(enter(&room, 1).is_none());
        drop(inside);
        assert!(enter(&room, 1).is_some());
    }

    #[test]
    fn one_that_is_larger_than_the_room_is_alone_in_it() {
        let room = WaitingRoom::new();
        for bytes in [MAX_BYTES as usize + 1, u32::MAX as usize + 1, usize::MAX] {
            let alone = enter(&room, bytes).unwrap();
            assert!(enter(&room, 1).is_none());
            drop(alone);
            let other = enter(&room, 1);
            assert!(enter(&room, bytes).is_none());
            drop(other);
        }
    }
}
