use futures_util::future::join_all;
use purista_core::{
    Result,
    adapter::{Consumer, Stop},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{connection::Connection, core_consumer::CoreConsumer, pull_consumer::PullConsumer};

/// The consuming end of one registration.
#[derive(Debug)]
pub(crate) struct NatsConsumer(pub(crate) Vec<Part>);

/// One source of a registration's messages.
#[derive(Debug)]
pub(crate) enum Part {
    Core(CoreConsumer),
    Pull(PullConsumer),
}

impl Consumer for NatsConsumer {
    async fn stop(&self, why: Stop) {
        join_all(self.0.iter().map(async |part| match part {
            Part::Core(consumer) => consumer.stop(why).await,
            Part::Pull(consumer) => consumer.stop(why).await,
        }))
        .await;
    }

    async fn close(&self) -> Result<()> {
        let closed = self.0.iter().map(async |part| match part {
            Part::Core(_) => Ok(()),
            Part::Pull(consumer) => consumer.close().await,
        });
        join_all(closed).await.into_iter().collect()
    }
}

/// The task of one source, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ConsumerTask {
    stop: watch::Sender<Option<Stop>>,
    stopped: CancellationToken,
    _end: DropGuard,
}

/// Tells a task to stop.
#[derive(Debug)]
pub(crate) struct StopSignal(watch::Receiver<Option<Stop>>);

impl ConsumerTask {
    /// Starts the task, which also ends with its connection.
    pub(crate) fn spawn<F>(connection: &Connection, run: impl FnOnce(StopSignal) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopping) = watch::channel(None);
        let (stopped, end) = (CancellationToken::new(), connection.closing().child_token());
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

    /// Tells the task to stop, and waits until it has.
    pub(crate) async fn stop(&self, why: Stop) {
        self.stop.send_replace(Some(why));
        self.stopped.cancelled().await;
    }
}

impl StopSignal {
    /// Waits until the task has to stop. Cancel safe.
    pub(crate) async fn told(&mut self) -> Stop {
        let why = self.0.wait_for(Option::is_some).await;
        why.ok().and_then(|why| *why).unwrap_or(Stop::Unregistered)
    }
}
