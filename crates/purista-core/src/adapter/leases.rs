//! The leases of what is in hand, extended beside the handlers: one that blocks its thread cannot do it itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::Acknowledgement;
use crate::error::Result;

/// In so many steps a lease is over. It is extended in the second at the latest.
const STEPS: u32 = 4;

/// The leases of one registration.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<Held>,
    /// Told when nothing is held any more and nothing will be.
    over: Notify,
}

#[derive(Debug, Default)]
struct Held {
    by_number: BTreeMap<u64, Lease>,
    next_number: u64,
    /// There is a task that extends them.
    is_kept: bool,
    is_closing: bool,
}

#[derive(Debug)]
struct Lease {
    acknowledgement: Arc<Shared>,
    /// It is held since the step before.
    is_due: bool,
}

/// What the handler's task takes to acknowledge, and the task of the leases to extend.
type Shared = tokio::sync::Mutex<Option<Box<dyn Acknowledgement>>>;

impl Leases {
    /// Extends the lease of a delivery, if it has one, until it is acknowledged or dropped.
    pub(super) fn hold(
        self: &Arc<Self>,
        acknowledgement: Box<dyn Acknowledgement>,
    ) -> Box<dyn Acknowledgement> {
        let Some(lease) = acknowledgement.lease() else { return acknowledgement };
        let acknowledgement = Arc::new(Shared::new(Some(acknowledgement)));
        let mut held = self.held.lock();
        let number = held.next_number;
        held.next_number += 1;
        held.by_number.insert(number, Lease { acknowledgement: Arc::clone(&acknowledgement), is_due: false });
        if !held.is_kept {
            held.is_kept = true;
            tokio::spawn(Arc::clone(self).keep(lease / STEPS));
        }
        drop(held);
        Box::new(Leased { acknowledgement, leases: Arc::downgrade(self), number })
    }

    /// Says that the registration ends: the task goes when nothing is held any more.
    pub(super) fn close(&self) {
        self.held.lock().is_closing = true;
        self.over.notify_one();
    }

    async fn keep(self: Arc<Self>, step: Duration) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(step) => {}
                () = self.over.notified() => {}
            }
            let Some(due) = self.due() else { return };
            join_all(due.iter().map(|acknowledgement| extend(acknowledgement, step))).await;
        }
    }

    /// Returns what is to be extended; `None` if nothing is held.
    fn due(&self) -> Option<Vec<Arc<Shared>>> {
        let mut held = self.held.lock();
        if held.by_number.is_empty() {
            held.is_kept = false;
            return None;
        }
        let is_due = |lease: &mut Lease| std::mem::replace(&mut lease.is_due, true);
        let leases = held.by_number.values_mut();
        Some(leases.filter_map(|lease| is_due(lease).then(|| Arc::clone(&lease.acknowledgement))).collect())
    }

    fn let_go(&self, number: u64) {
        let mut held = self.held.lock();
        held.by_number.remove(&number);
        if held.is_closing && held.by_number.is_empty() {
            self.over.notify_one();
        }
    }
}

async fn extend(acknowledgement: &Shared, limit: Duration) {
    let extended = timeout(limit, async {
        match &*acknowledgement.lock().await {
            Some(acknowledgement) => acknowledgement.extend().await,
            None => Ok(()),
        }
    });
    match extended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a lease could not be extended"),
        Err(_) => tracing::debug!("a lease could not be extended in time"),
    }
}

/// An acknowledgement whose lease is extended as long as this is there.
#[derive(Debug)]
struct Leased {
    acknowledgement: Arc<Shared>,
    leases: Weak<Leases>,
    number: u64,
}

impl Leased {
    /// Takes the acknowledgement out, which ends its lease.
    async fn take(&self) -> Option<Box<dyn Acknowledgement>> {
        self.acknowledgement.lock().await.take()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(leases) = self.leases.upgrade() {
            leases.let_go(self.number);
        }
    }
}

#[async_trait]
impl Acknowledgement for Leased {
    async fn accept(self: Box<Self>) -> Result<()> {
        match self.take().await {
            Some(acknowledgement) => acknowledgement.accept().await,
            None => Ok(()),
        }
    }

    async fn release(self: Box<Self>, failed_attempts: u32) -> Result<()> {
        match self.take().await {
            Some(acknowledgement) => acknowledgement.release(failed_attempts).await,
            None => Ok(()),
        }
    }
}
