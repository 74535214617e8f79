//! Start of an engine, and all that changes its set of consumers.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use tokio::task::JoinHandle;

use super::{Engine, Link, Stop, Transport, registered::Registered};
use crate::{
    error::{ErrorKind, Result},
    health::BridgeState,
};

impl<T: Transport> Engine<T> {
    pub(super) async fn start_once(&self) -> Result<()> {
        if self.shared.state() == BridgeState::Created {
            self.shared.home.settle("start").map_err(|error| error.with_bridge(T::NAME))?;
        }
        let started = self.change("start", async |engine: Arc<Self>| {
            if engine.shared.state() == BridgeState::Started {
                return Ok(false);
            }
            let started = engine.connect_and_open().await;
            if started.is_err() {
                engine.reset().await;
            }
            started.map(|()| true)
        });
        if started.await? {
            self.registered().iter().for_each(|registered| self.announce(registered));
        }
        Ok(())
    }

    async fn connect_and_open(&self) -> Result<()> {
        if self.shared.advance(BridgeState::Starting).is_none() {
            return Err(self.shared.explain(Self::error(ErrorKind::ShutDown, "start")));
        }
        self.watch_runtime();
        self.shared.counters.show();
        self.shared.operations.show();
        let link = Link(Arc::clone(&self.shared));
        self.within_operation_timeout("start", self.transport.connect(link.clone())).await?;
        // From here on handlers run, and may emit and invoke.
        link.connected();
        for registered in self.registered() {
            registered.grant_again(&self.transport.capabilities())?;
            self.open(&registered).await?;
        }
        self.within_operation_timeout("start", self.transport.opened()).await?;
        match self.shared.advance(BridgeState::Started) {
            Some(_) => Ok(()),
            None => Err(Self::error(ErrorKind::ShutDown, "start")),
        }
    }

    /// Undoes what a start that failed has done.
    async fn reset(&self) {
        let undo = async {
            for registered in self.registered() {
                if let Some(consumer) = registered.take_consumer() {
                    Self::end(&*consumer, Stop::Unregistered).await?;
                }
            }
            self.transport.disconnect().await
        };
        if let Err(error) = self.within_operation_timeout("start", undo).await {
            tracing::debug!(%error, "a start that failed could not be undone");
        }
        Link(Arc::clone(&self.shared)).disconnected("the start failed");
        self.shared.home.leave();
        self.shared.advance(BridgeState::Created);
    }

    /// Runs a change of the set of consumers: alone, not into a shutdown, and on a task of its own, so that it is never
    /// left half done.
    pub(super) async fn change<R, F>(
        &self,
        operation: &'static str,
        change: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<R>
    where
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send,
    {
        let shut_down = move || Self::error(ErrorKind::ShutDown, operation);
        let engine = self.itself.upgrade().ok_or_else(shut_down)?;
        if self.shared.state() == BridgeState::ShutDown {
            return Err(self.shared.explain(shut_down()));
        }
        if self.shared.state() == BridgeState::Created {
            // Until the start, any runtime will do.
            self.shared.home.settle(operation).map_err(|error| error.with_bridge(T::NAME))?;
        }
        let task = self.shared.home.spawn(async move {
            let alone = async {
                let _alone = engine.changing.lock().await;
                change(Arc::clone(&engine)).await
            };
            tokio::select! {
                biased;
                () = engine.closing.cancelled() => Err(shut_down()),
                result = alone => result,
            }
        });
        Self::joined(task, operation).await
    }

    /// Waits for an operation that runs on a task of its own.
    pub(super) async fn joined<R>(task: JoinHandle<Result<R>>, operation: &'static str) -> Result<R> {
        task.await.unwrap_or_else(|error| match error.is_cancelled() {
            // Only the end of the runtime does that.
            true => {
                Err(Self::error(ErrorKind::ShutDown, operation)
                    .with_context("the runtime of the bridge is gone"))
            }
            false => Err(Self::error(ErrorKind::Unexpected, operation).with_source(error)),
        })
    }

    /// Runs an operation of the transport within its time. One that is ready at once needs no timer.
    pub(super) async fn within_operation_timeout<R>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<R>>,
    ) -> Result<R> {
        let mut work = pin!(work);
        if let Poll::Ready(result) = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
            return result;
        }
        // Boxed, so that what is ready at once does not carry room for it.
        let out_of_time = Box::pin(tokio::time::sleep(self.config.operation_timeout));
        tokio::select! {
            biased;
            result = work => result,
            () = out_of_time => Err(Self::error(ErrorKind::Timeout, operation)),
        }
    }

    pub(super) fn registered(&self) -> Vec<Arc<Registered<T>>> {
        self.registrations.lock().values().cloned().collect()
    }
}
