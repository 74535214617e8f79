//! The runtime that a bridge lives on, and its end.

use std::{
    future::Future,
    process,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Engine, Transport, link::Shared};
use crate::{
    error::{Error, ErrorKind, Result},
    health::BridgeState,
};

const NONE: &str = "a bridge needs to be started on a Tokio runtime";
const GONE: &str = "the runtime that the bridge was started on is gone";
const FORKED: &str = "the bridge was started by the process that this one was forked from";

/// Where the tasks of a bridge run, and whether they still can.
#[derive(Debug, Default)]
pub(super) struct Home {
    runtime: RwLock<Option<Handle>>,
    /// The process that has the threads of the runtime; 0 before the start.
    process: AtomicU32,
    /// Cancelled when the runtime went away under the bridge.
    gone: CancellationToken,
    /// Cancelled when the bridge has shut down, or its runtime went away.
    over: CancellationToken,
    /// Dropped when the bridge needs its runtime no more.
    needed: Mutex<Option<DropGuard>>,
}

impl Home {
    /// Spawns a task on the runtime of the bridge: where it is called may end before that.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match &*self.runtime.read() {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Makes the runtime that this is called on the one of the bridge, as long as it is not started.
    pub(super) fn settle(&self, operation: &'static str) -> Result<()> {
        let here = Handle::try_current();
        let here = here.map_err(|error| {
            Error::new(ErrorKind::Unexpected, operation).with_context(NONE).with_source(error)
        })?;
        *self.runtime.write() = Some(here);
        Ok(())
    }

    /// Waits for a moment, by the clock of the bridge's runtime where it is called on none.
    pub(super) async fn sleep_until(&self, moment: Instant) {
        let sleep = match (Handle::try_current(), &*self.runtime.read()) {
            (Err(_), Some(runtime)) => {
                let _entered = runtime.enter();
                sleep_until(moment)
            }
            _ => sleep_until(moment),
        };
        sleep.await;
    }

    /// Completes when the runtime went away.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Completes when nothing of the bridge runs any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Says that nothing of the bridge runs any more.
    pub(super) fn end(&self) {
        self.leave();
        self.over.cancel();
    }

    /// Returns whether this is a copy of a bridge, whose tasks are in another process.
    pub(super) fn is_forked(&self) -> bool {
        let process = self.process.load(Ordering::Acquire);
        process != 0 && process != process::id()
    }

    /// Tells why the tasks of the bridge do not run.
    pub(super) fn why_gone(&self) -> Option<&'static str> {
        match self.is_forked() {
            true => Some(FORKED),
            false => self.gone.is_cancelled().then_some(GONE),
        }
    }

    /// Says that the bridge needs its runtime no more.
    pub(super) fn leave(&self) {
        drop(self.needed.lock().take());
    }
}

impl Shared {
    /// Adds why to the error of a bridge that can be used no more.
    pub(super) fn explain(&self, error: Error) -> Error {
        match self.home.why_gone() {
            Some(why) if error.kind() == ErrorKind::ShutDown => error.with_context(why),
            _ => error,
        }
    }

    /// Ends everything that waits for tasks, as there are none any more.
    fn abandon(&self) {
        self.advance(BridgeState::ShutDown);
        self.home.gone.cancel();
        self.home.over.cancel();
        self.calls.close();
        self.disconnected(GONE);
    }
}

impl<T: Transport> Engine<T> {
    /// Has it noticed when the runtime goes away under the bridge.
    pub(super) fn watch_runtime(&self) {
        let home = &self.shared.home;
        home.process.store(process::id(), Ordering::Release);
        let left = CancellationToken::new();
        let sentinel = Sentinel {
            shared: Arc::clone(&self.shared),
            engine: Weak::clone(&self.itself),
            left: left.clone(),
        };
        home.spawn(async move { sentinel.left.cancelled().await });
        *home.needed.lock() = Some(left.drop_guard());
    }
}

/// Is dropped with the runtime.
struct Sentinel<T: Transport> {
    shared: Arc<Shared>,
    engine: Weak<Engine<T>>,
    /// Cancelled when the bridge needs the runtime no more.
    left: CancellationToken,
}

impl<T: Transport> Drop for Sentinel<T> {
    fn drop(&mut self) {
        if self.left.is_cancelled() {
            return;
        }
        self.shared.abandon();
        if let Some(engine) = self.engine.upgrade() {
            tracing::error!(bridge = T::NAME, "{GONE}");
            engine.registered().iter().for_each(|registered| registered.halt());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_copy_knows_that_it_is_one() {
        let shared = Shared::new("i".into(), 1, "test");
        shared.advance(BridgeState::Started);
        shared.home.process.store(process::id(), Ordering::Release);
        assert_eq!((shared.state(), shared.home.why_gone()), (BridgeState::Started, None));
        // The id that the parent would have.
        shared.home.process.store(process::id() + 1, Ordering::Release);
        assert_eq!((shared.state(), shared.home.why_gone()), (BridgeState::ShutDown, Some(FORKED)));
        assert!(!shared.health().is_healthy() && !shared.health().connected);
        let error = shared.explain(Error::new(ErrorKind::ShutDown, "emit"));
        assert!(error.to_string().contains("forked"), "{error}");
    }
}
