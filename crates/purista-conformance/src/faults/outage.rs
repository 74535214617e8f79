//! What goes wrong when the broker, or the way to it, does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use purista_core::{BridgeEvent, BridgeEvents, Error, ErrorKind, EventBridge, Result};
use tokio::{
    select,
    time::{interval, sleep},
};

use super::Fault;
use crate::broker::SECRET;

/// What a bridge with a fault has gone through.
#[derive(Debug)]
pub(super) struct Outage {
    fault: Fault,
    is_deaf: AtomicBool,
    has_blocked: AtomicBool,
}

impl Outage {
    pub(super) const fn new(fault: Fault) -> Self {
        Self { fault, is_deaf: AtomicBool::new(false), has_blocked: AtomicBool::new(false) }
    }

    /// Returns whether no subscription gets anything any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
    }

    /// Goes wrong when something happens to the right bridge.
    pub(super) fn watch(self: &Arc<Self>, mut events: BridgeEvents) {
        let faults = [
            Fault::LosesSubscriptions,
            Fault::LosesCancelledConsumers,
            Fault::HidesStoppages,
            Fault::LeaksTasksOfOutages,
        ];
        if !faults.contains(&self.fault) {
            return;
        }
        let outage = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match (outage.fault, event) {
                    (Fault::LosesSubscriptions, BridgeEvent::Disconnected(_))
                    | (
                        Fault::LosesCancelledConsumers | Fault::HidesStoppages,
                        BridgeEvent::ConsumerDown(_),
                    ) => {
                        outage.is_deaf.store(true, Ordering::Release);
                    }
                    (Fault::LeaksTasksOfOutages, BridgeEvent::Disconnected(_)) => {
                        tokio::spawn(std::future::pending::<()>());
                    }
                    _ => {}
                }
            }
        });
    }

    /// Starts the right bridge.
    pub(super) async fn start(&self, bridge: &dyn EventBridge) -> Result<()> {
        let mut again = interval(Duration::from_millis(100));
        loop {
            again.tick().await;
            if self.fault == Fault::TracesSecrets {
                tracing::trace!(password = SECRET, "connecting");
            }
            let refused = match bridge.start().await {
                Err(error) => error,
                started => return started,
            };
            let outage = Error::new(ErrorKind::Unavailable, "start");
            return Err(match (self.fault, refused.kind()) {
                (Fault::WaitsForItsBroker, kind) if kind.is_temporary() => continue,
                (Fault::HidesRefusedCertificates, ErrorKind::Tls)
                | (Fault::HidesRefusedLogins, ErrorKind::Unauthenticated) => outage.with_source(refused),
                (Fault::TellsSecrets, _) => refused.with_context(format!("with the password {SECRET}")),
                _ => refused,
            });
        }
    }

    /// Does something, and blocks its thread once if that takes long.
    pub(super) async fn block<R>(&self, doing: impl Future<Output = R> + Send) -> R {
        let mut doing = std::pin::pin!(doing);
        select! {
            biased;
            done = &mut doing => return done,
            () = sleep(Duration::from_millis(100)) => {}
        }
        if !self.has_blocked.swap(true, Ordering::AcqRel) {
            thread::sleep(Duration::from_secs(5));
        }
        doing.await
    }
}
