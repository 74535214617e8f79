use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Whether the component takes events, as far as publishes tell: no sidecar says how its component is.
#[derive(Debug, Default)]
pub(crate) struct ComponentHealth {
    is_failing: AtomicBool,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    reason: String,
}

impl ComponentHealth {
    /// Notes that it took an event.
    pub(crate) fn works(&self) {
        if self.is_failing.load(Ordering::Acquire) {
            *self.failing.lock() = None;
            self.is_failing.store(false, Ordering::Release);
        }
    }

    /// Notes that it could not take an event, or that one is waited for.
    pub(crate) fn fails(&self, reason: impl Into<String>) {
        self.failed_since(Instant::now(), reason);
    }

    /// Notes that it takes no event, and has not since then.
    pub(crate) fn failed_since(&self, since: Instant, reason: impl Into<String>) {
        let mut failing = self.failing.lock();
        let since = failing.as_ref().map_or(since, |failing| failing.since.min(since));
        *failing = Some(Failing { since, last: Instant::now(), reason: reason.into() });
        self.is_failing.store(true, Ordering::Release);
    }

    /// Notes that an event was waited for in vain, unless another one was taken meanwhile.
    pub(crate) fn still_fails(&self) {
        if let Some(failing) = &mut *self.failing.lock() {
            failing.last = Instant::now();
        }
    }

    /// Returns why it takes nothing, if it has not for so long. As long after the last failure it counts as well again:
    /// nobody has tried since.
    pub(crate) fn failure(&self, patience: Duration) -> Option<String> {
        let failing = self.failing.lock();
        let failing = failing.as_ref()?;
        let is_recent = failing.last.elapsed() < 2 * patience;
        (is_recent && failing.since.elapsed() >= patience).then(|| failing.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn it_fails_when_nothing_was_taken_for_some_time_and_somebody_tries() {
        let component = ComponentHealth::default();
        assert_eq!(component.failure(PATIENCE), None);
        component.fails("once");
        advance(PATIENCE).await;
        component.fails("twice");
        assert_eq!(component.failure(PATIENCE).as_deref(), Some("twice"));
        advance(2 * PATIENCE).await;
        assert_eq!(component.failure(PATIENCE), None);

        component.fails("waits");
        advance(PATIENCE).await;
        component.still_fails();
        assert_eq!(component.failure(PATIENCE).as_deref(), Some("waits"));
        component.works();
        component.still_fails();
        assert_eq!(component.failure(PATIENCE), None);
        component.failed_since(Instant::now() - PATIENCE, "at once");
        assert_eq!(component.failure(PATIENCE).as_deref(), Some("at once"));

        component.works();
        component.fails("again");
        component.works();
        advance(PATIENCE).await;
        component.fails("a new failure");
        assert_eq!(component.failure(PATIENCE), None);
    }
}
