use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What was sent to the broker to come back.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    under_way: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

impl RoundTrips {
    pub(crate) fn begin(&self) -> (u64, oneshot::Receiver<()>) {
        let (number, (back, is_back)) = (self.next.fetch_add(1, Ordering::Relaxed), oneshot::channel());
        let mut under_way = self.under_way.lock();
        under_way.retain(|_, back| !back.is_closed());
        under_way.insert(number, back);
        (number, is_back)
    }

    pub(crate) fn end(&self, payload: &[u8]) {
        let number = payload.try_into().ok().map(u64::from_be_bytes);
        if let Some(back) = number.and_then(|number| self.under_way.lock().remove(&number)) {
            // Who waited may have given up at this moment.
            let _given_up = back.send(());
        }
    }
}
