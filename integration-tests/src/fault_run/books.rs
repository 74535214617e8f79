use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use purista_conformance::{Ledger, LedgerReport};
use purista_core::{Error, InvokeError};
use tokio::sync::Semaphore;

use super::recovery::Watch;

/// How many events may be under way, from the emit to the handler. What a broken connection took with it is under way
/// until the broker delivers it again; it must not hold up the load.
const UNDER_WAY: usize = 4_000;

/// How many events may be emitted before the run must say that it goes on. It keeps the books small.
const GRANT: u64 = 20_000;

/// How many complaints are kept; the others tell the same, likely.
const COMPLAINTS: usize = 20;

/// What the load did, and what came of it.
#[derive(Debug)]
pub(super) struct Books {
    ledger: Ledger,
    next: AtomicU64,
    acknowledged: AtomicU64,
    /// Below which number events may be emitted.
    granted: AtomicU64,
    under_way: Mutex<HashSet<u64>>,
    /// The room for more of them.
    room: Semaphore,
    /// What is kept of that room until more is granted.
    kept: AtomicUsize,
    pub(super) watch: Watch,
    counts: Mutex<Counts>,
}

/// How often things happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) emits_failed: BTreeMap<String, u64>,
    pub(super) calls_ok: u64,
    pub(super) calls_failed: BTreeMap<String, u64>,
    /// Events that came with the remark that they had come before.
    pub(super) came_again: HashSet<u64>,
    /// What must not be.
    pub(super) complaints: Vec<String>,
}

impl Books {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            granted: AtomicU64::new(GRANT),
            under_way: Mutex::default(),
            room: Semaphore::new(UNDER_WAY),
            kept: AtomicUsize::new(0),
            watch: Watch::default(),
            counts: Mutex::default(),
        }
    }

    /// Lets the load go on.
    pub(super) fn grant(&self) {
        self.granted.store(self.next() + GRANT, SeqCst);
        self.room.add_permits(self.kept.swap(0, SeqCst));
    }

    /// Makes room, if this event took any: it may be handled twice, or handled although its emit failed.
    fn has_arrived(&self, number: u64) {
        if self.under_way.lock().remove(&number) {
            if self.next() < self.granted.load(SeqCst) {
                self.room.add_permits(1);
            } else {
                self.kept.fetch_add(1, SeqCst);
            }
        }
    }

    /// Makes room for what may be lost: it may be handled later, or never.
    pub(super) fn forget_what_is_under_way(&self) {
        let mut under_way = self.under_way.lock();
        self.room.add_permits(under_way.len());
        under_way.clear();
    }

    /// Ends the load: what is under way is finished.
    pub(super) fn close(&self) {
        self.room.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.room.is_closed()
    }

    /// Returns the number of the next event, `None` at the end.
    pub(super) async fn number(&self) -> Option<u64> {
        self.room.acquire().await.ok()?.forget();
        let number = self.next.fetch_add(1, SeqCst);
        // It may be handled before the emit returns, and also if that fails.
        self.ledger.unknown(number);
        self.under_way.lock().insert(number);
        Some(number)
    }

    /// Returns the number that no event has yet.
    pub(super) fn next(&self) -> u64 {
        self.next.load(SeqCst)
    }

    pub(super) fn acknowledged(&self, number: u64) {
        self.ledger.ok(number);
        self.acknowledged.fetch_add(1, SeqCst);
        self.watch.emitted(number);
    }

    pub(super) fn acknowledged_count(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    pub(super) fn emit_failed(&self, number: u64, error: &Error) {
        self.has_arrived(number);
        *self.counts.lock().emits_failed.entry(format!("{:?}", error.kind())).or_default() += 1;
        if !error.kind().is_temporary() {
            self.complain(format!("emit: {error:?}"));
        }
    }

    pub(super) fn handled(&self, service: usize, number: u64, attempt: u32) {
        self.ledger.handled(number);
        if attempt > 1 {
            self.counts.lock().came_again.insert(number);
        }
        self.watch.handled(service);
        self.has_arrived(number);
    }

    pub(super) fn handled_count(&self) -> usize {
        self.ledger.handled_count()
    }

    pub(super) fn call_ok(&self) {
        self.counts.lock().calls_ok += 1;
    }

    pub(super) fn call_failed(&self, error: &InvokeError) {
        let kind = error.bridge_kind();
        let name = kind.map_or_else(|| "Answer".to_owned(), |kind| format!("{kind:?}"));
        *self.counts.lock().calls_failed.entry(name).or_default() += 1;
        if !kind.is_some_and(purista_core::ErrorKind::is_temporary) {
            self.complain(format!("invoke: {error:?}"));
        }
    }

    pub(super) fn complain(&self, complaint: String) {
        let complaints = &mut self.counts.lock().complaints;
        if complaints.len() < COMPLAINTS {
            complaints.push(complaint);
        }
    }

    pub(super) fn balance(&self) -> LedgerReport {
        self.ledger.balance()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}
