use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

/// How long an outcome is remembered: longer than sidecars and components wait before they deliver again.
const EXPIRY: Duration = Duration::from_secs(300);

/// How many outcomes are remembered.
const MAX_OUTCOMES: usize = 10_000;

/// How many bytes all that is remembered may have.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Remembers what became of messages, as sidecars and components deliver some more than once. What is under way is never
/// forgotten; of outcomes, the oldest are.
#[derive(Debug)]
pub(crate) struct Recent<K, V>(Mutex<State<K, V>>);

#[derive(Debug)]
struct State<K, V> {
    known: HashMap<K, watch::Receiver<Option<V>>>,
    outcomes: VecDeque<(Instant, K, usize)>,
    bytes: usize,
}

/// The right to say what became of a message. Dropped without a word, the message counts as never seen.
#[derive(Debug)]
pub(crate) struct Claim<K: Clone + Eq + Hash, V> {
    recent: Weak<Recent<K, V>>,
    key: K,
    outcome: watch::Sender<Option<V>>,
    is_remembered: bool,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new() -> Arc<Self> {
        let (known, outcomes) = (HashMap::new(), VecDeque::new());
        Arc::new(Self(Mutex::new(State { known, outcomes, bytes: 0 })))
    }

    /// Claims a message that is new; returns also where its outcome will be.
    pub(crate) fn claim(self: &Arc<Self>, key: K) -> (Option<Claim<K, V>>, watch::Receiver<Option<V>>) {
        let mut state = self.0.lock();
        state.forget_old();
        if let Some(known) = state.known.get(&key) {
            return (None, known.clone());
        }
        let (outcome, receiver) = watch::channel(None);
        state.known.insert(key.clone(), receiver.clone());
        let recent = Arc::downgrade(self);
        (Some(Claim { recent, key, outcome, is_remembered: false }), receiver)
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    fn forget_old(&mut self) {
        while let Some((since, _, _)) = self.outcomes.front() {
            let is_room = self.outcomes.len() <= MAX_OUTCOMES && self.bytes <= MAX_BYTES;
            if is_room && since.elapsed() < EXPIRY {
                return;
            }
            if let Some((_, key, bytes)) = self.outcomes.pop_front() {
                self.known.remove(&key);
                self.bytes -= bytes;
            }
        }
    }
}

impl<K: Clone + Eq + Hash, V> Claim<K, V> {
    /// Says what became of the message, for all who deliver it from now on. The outcome takes so many bytes.
    pub(crate) fn settle(mut self, outcome: V, bytes: usize) {
        self.is_remembered = true;
        if let Some(recent) = self.recent.upgrade() {
            let mut state = recent.0.lock();
            state.outcomes.push_back((Instant::now(), self.key.clone(), bytes));
            state.bytes += bytes;
        }
        self.outcome.send_replace(Some(outcome));
    }

    /// Says what became of the message to those who wait; whoever delivers it from now on delivers a new one.
    pub(crate) fn settle_once(mut self, outcome: V) {
        self.forget();
        self.outcome.send_replace(Some(outcome));
    }

    fn forget(&mut self) {
        if mem::replace(&mut self.is_remembered, true) {
            return;
        }
        if let Some(recent) = self.recent.upgrade() {
            recent.0.lock().known.remove(&self.key);
        }
    }
}

impl<K: Clone + Eq + Hash, V> Drop for Claim<K, V> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Waits for an outcome; `None` if the claim was dropped without one.
pub(crate) async fn outcome<V: Clone + Send + Sync>(mut receiver: watch::Receiver<Option<V>>) -> Option<V> {
    receiver.wait_for(Option::is_some).await.ok()?.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_has_one_outcome_however_often_it_comes() {
        let recent = Recent::new();
        let (claim, first) = recent.claim(1);
        let (again, second) = recent.claim(1);
        assert!(again.is_none());
        claim.unwrap().settle("done", 4);
        assert_eq!(outcome(first).await, Some("done"));
        assert_eq!(outcome(second).await, Some("done"));
        assert_eq!(outcome(recent.claim(1).1).await, Some("done"));
    }

    #[tokio::test]
    async fn what_was_given_back_or_given_up_comes_as_new() {
        let recent = Recent::new();
        let (claim, waiting) = recent.claim(1);
        claim.unwrap().settle_once("given back");
        assert_eq!(outcome(waiting).await, Some("given back"));
        let (claim, waiting) = recent.claim(1);
        drop(claim);
        assert_eq!(outcome(waiting).await, None);
        assert!(recent.claim(1).0.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_are_forgotten_and_claims_are_not() {
        let recent = Recent::new();
        recent.claim(1).0.unwrap().settle("done", 4);
        let under_way = recent.claim(2);
        recent.claim(3).0.unwrap().settle("large", MAX_BYTES + 1);
        assert!(recent.claim(1).0.is_some(), "the oldest makes room");
        tokio::time::advance(EXPIRY).await;
        assert!(recent.claim(2).0.is_none());
        drop(under_way);
        assert!(recent.claim(2).0.is_some());
    }
}
