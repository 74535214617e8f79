//! Which messages may share a channel. RabbitMQ closes the channel of a message that it refuses, and does not tell which
//! one that was nor what became of the others: so what it may refuse goes alone, and what it has taken before goes with
//! others.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::topology::Route;

/// How many routes are remembered, twice: those of before go when so many new ones have come.
const ROUTES: usize = 4_096;

/// How long messages of a route go alone after one of them was refused.
const WARY: Duration = Duration::from_secs(30);

/// What the broker has taken in this session, and what it has refused.
#[derive(Debug)]
pub(crate) struct Trust {
    hasher: RandomState,
    lines: Mutex<Lines>,
    /// Begins anew when the broker refuses what was trusted.
    epoch: AtomicU64,
    /// Messages up to this size are trusted.
    size: AtomicUsize,
    /// The largest message that the broker takes, once it has told.
    limit: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lines {
    young: HashMap<u64, Arc<Line>>,
    old: HashMap<u64, Arc<Line>>,
}

/// What is known of a route, and who waits to find out.
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Messages wait one after the other, so that they keep their order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// The epoch in which a message to the route was taken.
    taken_in: Option<u64>,
    wary_until: Option<Instant>,
    waiting: usize,
}

/// A place in the line of a route. Those behind come after it is dropped.
pub(crate) struct InLine {
    line: Arc<Line>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Trust {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            lines: Mutex::default(),
            epoch: AtomicU64::new(0),
            size: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
        }
    }

    /// Finds the line of a route.
    pub(crate) fn line(&self, route: &Route) -> Arc<Line> {
        let key = self.hasher.hash_one((route.exchange.as_str(), route.routing_key.as_str()));
        self.lines.lock().line(key)
    }

    /// Waits for its turn in the line; `None` if it can go with others at once. Cancel safe.
    pub(crate) async fn queue(&self, line: &Arc<Line>, size: usize) -> Option<InLine> {
        {
            let mut state = line.state.lock();
            if state.waiting == 0 && self.is_trusted(&mut state, size) {
                return None;
            }
            state.waiting += 1;
        }
        let mut place = InLine { line: Arc::clone(line), turn: None };
        place.turn = Some(Arc::clone(&line.turn).lock_owned().await);
        Some(place)
    }

    /// Returns whether a message of this size can go with others.
    pub(crate) fn trusts(&self, line: &Line, size: usize) -> bool {
        self.is_trusted(&mut line.state.lock(), size)
    }

    fn is_trusted(&self, state: &mut State, size: usize) -> bool {
        if state.wary_until.is_some_and(|until| Instant::now() >= until) {
            state.wary_until = None;
        }
        state.wary_until.is_none()
            && state.taken_in == Some(self.epoch.load(Ordering::Acquire))
            && size <= self.size.load(Ordering::Acquire)
    }

    /// Notes that the broker has looked at a message and not refused it.
    pub(crate) fn taken(&self, line: &Line, size: usize) {
        line.state.lock().taken_in = Some(self.epoch.load(Ordering::Acquire));
        // Limits are round numbers.
        let trusted = size.checked_next_power_of_two().unwrap_or(size);
        self.size.fetch_max(trusted, Ordering::AcqRel);
    }

    /// Notes that the broker has refused a message that went alone.
    pub(crate) fn refused(&self, line: &Line) {
        line.state.lock().wary_until = Some(Instant::now() + WARY);
    }

    /// Trusts nothing any more, as the broker refused what it took before.
    pub(crate) fn begin_anew(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.size.store(0, Ordering::Release);
    }

    /// Notes how large a message may be.
    pub(crate) fn limit_to(&self, limit: usize) {
        self.limit.fetch_min(limit, Ordering::AcqRel);
    }

    /// Returns the largest size that the broker takes, if it is known that this is beyond it.
    pub(crate) fn limit_for(&self, size: usize) -> Option<usize> {
        Some(self.limit.load(Ordering::Acquire)).filter(|limit| size > *limit)
    }
}

impl Lines {
    fn line(&mut self, key: u64) -> Arc<Line> {
        if let Some(line) = self.young.get(&key) {
            return Arc::clone(line);
        }
        if self.young.len() >= ROUTES {
            self.old = mem::take(&mut self.young);
        }
        let line = self.old.remove(&key).unwrap_or_else(Line::new);
        self.young.insert(key, Arc::clone(&line));
        line
    }
}

impl Line {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), turn: Arc::default() })
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.turn = None;
        self.line.state.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;

    fn route(key: &str) -> Route {
        Route { exchange: "events".into(), routing_key: key.into(), properties: BasicProperties::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_goes_with_others_until_something_is_refused() {
        let trust = Trust::new();
        let (line, other) = (trust.line(&route("one")), trust.line(&route("two")));
        assert!(trust.queue(&line, 1).await.is_some());
        trust.taken(&line, 900);
        assert!(trust.queue(&line, 1_024).await.is_none());
        assert!(trust.queue(&line, 1_025).await.is_some());
        assert!(trust.queue(&other, 1).await.is_some());

        trust.refused(&line);
        trust.taken(&line, 900);
        assert!(trust.queue(&line, 1).await.is_some());
        tokio::time::advance(WARY).await;
        assert!(trust.queue(&line, 1).await.is_none());

        trust.begin_anew();
        assert!(trust.queue(&line, 1).await.is_some());
        assert_eq!(trust.limit_for(usize::MAX - 1), None);
        trust.limit_to(100);
        trust.limit_to(200);
        assert_eq!((trust.limit_for(100), trust.limit_for(101)), (None, Some(100)));
    }

    #[tokio::test]
    async fn nobody_overtakes_who_waits() {
        let trust = Trust::new();
        let line = trust.line(&route("one"));
        let first = trust.queue(&line, 1).await.unwrap();
        let mut second = Box::pin(trust.queue(&line, 1));
        assert!(futures_util::poll!(&mut second).is_pending());
        trust.taken(&line, 1);
        // Trusted, and yet behind the second one.
        let mut third = Box::pin(trust.queue(&line, 1));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        let second = second.await.unwrap();
        assert!(trust.trusts(&line, 1));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second);
        drop(third);
        assert!(trust.queue(&line, 1).await.is_none());
    }

    #[test]
    fn routes_are_bounded_and_those_in_use_stay() {
        let trust = Trust::new();
        let line = trust.line(&route("in use"));
        for number in 0..3 * ROUTES {
            trust.line(&route(&number.to_string()));
            assert!(Arc::ptr_eq(&line, &trust.line(&route("in use"))));
        }
        let lines = trust.lines.lock();
        assert!(lines.young.len() + lines.old.len() <= 2 * ROUTES);
    }
}
