use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What was sent to the broker to come back.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    under_way: Mutex<HashMap<u64, oneshot::Sender<bool>>>,
    next: AtomicU64,
}

impl RoundTrips {
    pub(crate) fn begin(&self) -> (u64, oneshot::Receiver<bool>) {
        let (number, (back, is_back)) = (self.next.fetch_add(1, Ordering::Relaxed), oneshot::channel());
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, back| !back.is_closed());
        under_way.insert(number, back);
        (number, is_back)
    }

    /// Takes what came back. Whoever answers adds something to say no.
    pub(crate) fn end(&self, payload: &[u8]) {
        let Some((number, rest)) = payload.split_first_chunk() else { return };
        let back = self.under_way.lock().remove(&u64::from_be_bytes(*number));
        if let Some(back) = back {
            // Who waited may have given up at this moment.
            let _given_up = back.send(rest.is_empty());
        }
    }
}
