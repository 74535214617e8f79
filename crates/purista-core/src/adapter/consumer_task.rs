use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Stop;

/// The task of a consumer, which ends when this is dropped.
#[derive(Debug)]
pub struct ConsumerTask {
    stop: watch::Sender<Option<Stop>>,
    stopped: CancellationToken,
    _end: DropGuard,
}

/// Tells a task to stop.
#[derive(Debug)]
pub struct StopSignal(watch::Receiver<Option<Stop>>);

impl ConsumerTask {
    /// Starts the task, which also ends when `closing` is cancelled.
    pub fn spawn<F>(closing: &CancellationToken, run: impl FnOnce(StopSignal) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopping) = watch::channel(None);
        let (stopped, end) = (CancellationToken::new(), closing.child_token());
        let (running, told, over) = (run(StopSignal(stopping)), stopped.clone(), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = running => {}
                () = over.cancelled() => {}
            }
            told.cancel();
        });
        Self { stop, stopped, _end: end.drop_guard() }
    }

    /// Tells the task to stop, and waits until it has. Cancel safe: it stops all the same.
    pub async fn stop(&self, why: Stop) {
        self.stop.send_replace(Some(why));
        self.stopped.cancelled().await;
    }
}

impl StopSignal {
    /// Waits until the task has to stop. Cancel safe.
    pub async fn told(&mut self) -> Stop {
        let why = self.0.wait_for(Option::is_some).await;
        why.ok().and_then(|why| *why).unwrap_or(Stop::Unregistered)
    }
}
