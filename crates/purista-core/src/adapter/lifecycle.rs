//! Start and shutdown of an engine.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{Engine, Link, Transport, registered::Registered};
use crate::{
    bridge::ShutdownReport,
    error::{ErrorKind, Result},
    events::BridgeEvent,
    health::BridgeState,
};

/// How long after its grace period a shutdown may take.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(240);

impl<T: Transport> Engine<T> {
    pub(super) async fn start_once(&self) -> Result<()> {
        let start = self.change("start", async {
            match self.shared.state() {
                BridgeState::Started => return Ok(false),
                // A start before this one was dropped half-way.
                BridgeState::Starting => self.reset().await,
                BridgeState::Created | BridgeState::Draining | BridgeState::ShutDown => {}
            }
            let started = self.connect_and_open().await;
            if started.is_err() {
                self.reset().await;
            }
            started.map(|()| true)
        });
        if start.await? {
            for registered in self.registered() {
                self.announce(&registered).await;
            }
        }
        Ok(())
    }

    async fn connect_and_open(&self) -> Result<()> {
        if self.shared.advance(BridgeState::Starting).is_none() {
            return Err(Self::error(ErrorKind::ShutDown, "start"));
        }
        let link = Link(Arc::clone(&self.shared));
        self.within_operation_timeout("start", self.transport.connect(link.clone())).await?;
        for registered in self.registered() {
            registered.recheck(&self.transport.capabilities())?;
            self.open(&registered).await?;
        }
        if self.shared.advance(BridgeState::Started).is_none() {
            return Err(Self::error(ErrorKind::ShutDown, "start"));
        }
        link.connected();
        Ok(())
    }

    /// Undoes what a start that failed has done.
    async fn reset(&self) {
        for registered in self.registered() {
            if let Some(consumer) = registered.take_consumer()
                && let Err(error) = Self::end(&*consumer).await
            {
                tracing::debug!(%error, address = %registered.address, "a consumer of a failed start");
            }
        }
        if let Err(error) = self.transport.disconnect().await {
            tracing::debug!(%error, "the connection of a failed start");
        }
        self.shared.advance(BridgeState::Created);
    }

    /// Runs a change of the set of consumers: alone, within its time, and not into a shutdown.
    pub(super) async fn change<R>(
        &self,
        operation: &'static str,
        change: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        let shut_down = || Self::error(ErrorKind::ShutDown, operation);
        let timed_change = async {
            let _alone = self.changing.lock().await;
            if self.closing.is_cancelled() {
                return Err(shut_down());
            }
            change.await
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(shut_down()),
            result = timed_change => result,
        }
    }

    pub(super) async fn within_operation_timeout<R>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        tokio::time::timeout(self.config.operation_timeout, work)
            .await
            .unwrap_or_else(|_| Err(Self::error(ErrorKind::Timeout, operation)))
    }

    pub(super) fn registered(&self) -> Vec<Arc<Registered<T>>> {
        self.registrations.lock().values().cloned().collect()
    }

    pub(super) async fn shutdown_once(&self, grace: Duration) -> ShutdownReport {
        if self.shutdown_begun.set(()).is_ok() {
            // In one step: a start at this moment either sees the shutdown or is seen by it.
            let connected = self.shared.advance(BridgeState::Draining) != Some(BridgeState::Created);
            self.shared.raise(BridgeEvent::Draining);
            self.closing.cancel();
            if let Some(engine) = self.itself.upgrade() {
                tokio::spawn(async move { engine.drain(grace, connected).await });
            }
        }
        let mut report = self.report.subscribe();
        match report.wait_for(Option::is_some).await {
            Ok(report) => report.clone().unwrap_or_default(),
            Err(_) => ShutdownReport::default(),
        }
    }

    async fn drain(&self, grace: Duration, connected: bool) {
        let now = Instant::now();
        let deadline = now.checked_add(grace).unwrap_or(now + crate::MAX_TIMEOUT);
        let mut report = ShutdownReport::default();
        // Changes give way as soon as the shutdown begins, so that this does not wait.
        let _alone = self.changing.lock().await;
        let registered = self.registered();
        let nothing_in_hand = || join_all(registered.iter().map(|registered| registered.in_hand.empty()));

        // Handlers first: they may still call others.
        let stop = join_all(registered.iter().map(|registered| registered.stop()));
        let in_time = timeout_at(deadline, async {
            stop.await;
            nothing_in_hand().await;
            self.shared.calls.empty().await;
        });
        if in_time.await.is_err() {
            report.cancelled_handlers = registered.iter().map(|registered| registered.in_hand.count()).sum();
        }
        registered.iter().for_each(|registered| registered.halt());
        self.cancellation.cancel();
        report.failed_calls = self.shared.calls.close();
        if connected {
            let close = async {
                nothing_in_hand().await;
                let mut closed = join_all(registered.iter().map(|registered| registered.close())).await;
                closed.push(self.transport.disconnect().await);
                closed
            };
            match timeout_at(deadline + SHUTDOWN_PATIENCE, close).await {
                Ok(closed) => {
                    report
                        .errors
                        .extend(closed.into_iter().filter_map(Result::err).map(|error| error.to_string()));
                }
                Err(_) => report.errors.push("the connection did not close in time".to_owned()),
            }
        }
        self.registrations.lock().clear();
        self.shared.advance(BridgeState::ShutDown);
        Link(Arc::clone(&self.shared)).disconnected("shut down");
        self.shared.raise(BridgeEvent::ShutDown);
        self.report.send_replace(Some(report));
    }
}
