use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::load::SERVICES;

/// How much of what bridges tell is kept of one fault.
const TOLD: usize = 200;

/// How long it took after one fault until everything worked again. What is `None` did not.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The fault.
    pub fault: String,
    /// Until the broker took over an event.
    #[serde(rename = "emit_ms", serialize_with = "milliseconds")]
    pub emit: Option<Duration>,
    /// Until a bridge handled an event.
    #[serde(rename = "event_ms", serialize_with = "milliseconds")]
    pub event: Option<Duration>,
    /// Until each bridge had handled one.
    #[serde(rename = "event_everywhere_ms", serialize_with = "milliseconds")]
    pub event_everywhere: Option<Duration>,
    /// Until a call was answered.
    #[serde(rename = "call_ms", serialize_with = "milliseconds")]
    pub call: Option<Duration>,
    /// What the bridges told since the recovery before, in milliseconds before and after the time began to count.
    pub told: Vec<String>,
}

impl Recovery {
    /// Returns whether everything worked again.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.emit.is_some() && self.event_everywhere.is_some() && self.call.is_some()
    }
}

/// Watches for the first success of each kind after a moment.
#[derive(Debug, Default)]
pub(super) struct Watch {
    round: Mutex<Option<Round>>,
    changed: Notify,
    told: Mutex<Vec<(Instant, String)>>,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    /// Emits before this number, and calls before this time, began before that.
    from: u64,
    armed: Instant,
    emit: Option<Duration>,
    call: Option<Duration>,
    events: [Option<Duration>; SERVICES],
}

impl Round {
    fn is_complete(&self) -> bool {
        self.emit.is_some() && self.call.is_some() && self.events.iter().all(Option::is_some)
    }
}

impl Watch {
    /// Counts time from `began`. What is handled from now on counts; emits count from a number on.
    pub(super) fn begin(&self, began: Instant, from: u64) {
        let (armed, events) = (Instant::now(), [None; SERVICES]);
        *self.round.lock() = Some(Round { began, from, armed, emit: None, call: None, events });
    }

    pub(super) fn emitted(&self, number: u64) {
        self.note(|round| (number >= round.from).then_some(&mut round.emit));
    }

    pub(super) fn handled(&self, service: usize) {
        self.note(|round| round.events.get_mut(service));
    }

    /// Notes the answer to a call that was begun at some time.
    pub(super) fn answered(&self, begun: Instant) {
        self.note(|round| (begun >= round.armed).then_some(&mut round.call));
    }

    /// Notes what a bridge told.
    pub(super) fn told(&self, what: String) {
        let mut told = self.told.lock();
        if told.len() < TOLD {
            told.push((Instant::now(), what));
        }
    }

    fn note(&self, which: impl FnOnce(&mut Round) -> Option<&mut Option<Duration>>) {
        let mut slot = self.round.lock();
        let Some(round) = &mut *slot else { return };
        let elapsed = round.began.elapsed();
        let Some(mark @ None) = which(round) else { return };
        *mark = Some(elapsed);
        self.changed.notify_one();
    }

    /// Waits until everything has worked, or for so long.
    pub(super) async fn end(&self, limit: Duration, fault: String) -> Recovery {
        let complete = async {
            while !self.round.lock().as_ref().is_some_and(Round::is_complete) {
                self.changed.notified().await;
            }
        };
        // What is missing then shows.
        let _in_time = timeout(limit, complete).await;
        let told = std::mem::take(&mut *self.told.lock());
        let since = |began: Instant, told: (Instant, String)| {
            let after = in_milliseconds(told.0.saturating_duration_since(began));
            let before = in_milliseconds(began.saturating_duration_since(told.0));
            format!("{} ms: {}", after - before, told.1)
        };
        match self.round.lock().take() {
            Some(Round { began, emit, call, events, .. }) => Recovery {
                fault,
                emit,
                event: events.iter().copied().flatten().min(),
                event_everywhere: events.iter().copied().max().filter(|_| !events.contains(&None)).flatten(),
                call,
                told: told.into_iter().map(|told| since(began, told)).collect(),
            },
            None => Recovery { fault, ..Recovery::default() },
        }
    }
}

#[expect(clippy::ref_option, reason = "serde calls it")]
fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(in_milliseconds).serialize(serializer)
}

/// Rounds to a tenth of a millisecond.
pub(super) fn in_milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_before_the_fault_does_not_count() {
        let watch = Watch::default();
        let before = Instant::now();
        tokio::time::advance(LIMIT).await;
        watch.begin(Instant::now(), 10);
        watch.emitted(9);
        watch.answered(before);
        let recovery = watch.end(LIMIT, String::new()).await;
        assert!(recovery.emit.is_none() && recovery.call.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_and_the_last_bridge_are_told_apart() {
        let watch = Watch::default();
        watch.begin(Instant::now(), 0);
        watch.handled(1);
        tokio::time::advance(LIMIT).await;
        watch.emitted(1);
        watch.answered(Instant::now());
        watch.handled(1);
        watch.handled(0);
        let recovery = watch.end(LIMIT, "fault".into()).await;
        assert!(recovery.is_complete());
        assert_eq!(recovery.event, Some(Duration::ZERO));
        assert_eq!(recovery.event_everywhere, Some(LIMIT));
        assert!(!watch.end(LIMIT, String::new()).await.is_complete());
    }
}
