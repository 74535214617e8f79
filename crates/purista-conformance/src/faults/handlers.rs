//! Handlers that come between a right bridge and a right handler.

use std::{
    future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use purista_core::{
    CommandHandler, Context, HandledError, HandlerError, Payload, StatusCode, SubscriptionHandler,
};
use tokio::{sync::Semaphore, time::Instant};

use super::{Fault, outage::Outage};

/// How many messages wait for their next attempt before [`Fault::KeepsPlaces`] shows.
const WAITING: usize = 1_000;

/// A command's handler, as a bridge with a fault runs it.
pub(super) struct WrongCommand {
    pub(super) fault: Fault,
    pub(super) handler: Arc<dyn CommandHandler>,
    pub(super) turn: Arc<Semaphore>,
}

#[async_trait]
impl CommandHandler for WrongCommand {
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        let _turn = self.turn.acquire().await;
        let context = match self.fault {
            Fault::ForgetsCallers => context.detached(),
            _ => context,
        };
        if self.fault == Fault::ExecutesTwice {
            let _first = self.handler.handle(context.clone()).await;
        }
        match (self.fault, self.handler.handle(context).await) {
            (Fault::LosesErrorData, Err(HandlerError::Handled(error))) => {
                Err(HandledError::new(error.status(), error.message()).into())
            }
            (Fault::LeaksCauses, Err(HandlerError::Unhandled(error))) => {
                Err(HandledError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into())
            }
            (_, result) => result,
        }
    }
}

/// A subscription's handler, as a bridge with a fault runs it.
pub(super) struct WrongSubscription {
    pub(super) fault: Fault,
    pub(super) handler: Arc<dyn SubscriptionHandler>,
    pub(super) registered_at: Instant,
    pub(super) outage: Arc<Outage>,
    pub(super) turn: Arc<Semaphore>,
    pub(super) failures: AtomicUsize,
}

#[async_trait]
impl SubscriptionHandler for WrongSubscription {
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        let _turn = self.turn.acquire().await;
        match self.fault {
            Fault::RegistersTooEarly if self.registered_at.elapsed() < Duration::from_millis(5) => Ok(()),
            _ if self.outage.is_deaf() => Ok(()),
            Fault::IgnoresForeignEvents
                if &*context.message().sender.address.service_target == "original" =>
            {
                Ok(())
            }
            Fault::SwallowsFailures => {
                let _swallowed = self.handler.handle(context).await;
                Ok(())
            }
            Fault::KeepsPlaces => {
                let handled = self.handler.handle(context).await;
                if handled.is_err() && self.failures.fetch_add(1, Ordering::Relaxed) >= WAITING {
                    future::pending::<()>().await;
                }
                handled
            }
            Fault::LosesPanics => {
                let handled = AssertUnwindSafe(self.handler.handle(context)).catch_unwind().await;
                handled.unwrap_or(Ok(()))
            }
            _ => self.handler.handle(context).await,
        }
    }
}
