//! Shutdown of an engine.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use tokio::time::{Instant, timeout_at};

use super::{
    Engine, Link, Stop, Transport,
    registered::{EndpointKind, Registered},
};
use crate::{
    bridge::ShutdownReport, error::Result, events::BridgeEvent, health::BridgeState, options::MAX_TIMEOUT,
};

/// How long after the grace period handlers may take to give up, and their messages to be given back.
const HANDLER_PATIENCE: Duration = Duration::from_millis(190);

/// How long after the grace period a shutdown may take.
const PATIENCE: Duration = Duration::from_millis(240);

impl<T: Transport> Engine<T> {
    pub(super) async fn shutdown_once(&self, grace: Duration) -> ShutdownReport {
        let gone = |why: &str| ShutdownReport { errors: vec![why.to_owned()], ..ShutdownReport::default() };
        if let Some(why) = self.shared.home.why_gone() {
            return gone(why);
        }
        if self.shutdown_begun.set(()).is_ok() {
            // In one step: a start at this moment either sees the shutdown or is seen by it.
            let connected = self.shared.advance(BridgeState::Draining) != Some(BridgeState::Created);
            self.shared.raise(BridgeEvent::Draining);
            self.closing.cancel();
            if let Some(engine) = self.itself.upgrade() {
                self.shared.home.spawn(async move { engine.end_of_life(grace, connected).await });
            }
        }
        let mut report = self.report.subscribe();
        tokio::select! {
            biased;
            report = report.wait_for(Option::is_some) => match report {
                Ok(report) => report.clone().unwrap_or_default(),
                Err(_) => ShutdownReport::default(),
            },
            () = self.shared.home.gone() => gone(self.shared.home.why_gone().unwrap_or_default()),
        }
    }

    async fn end_of_life(&self, grace: Duration, connected: bool) {
        let deadline = Instant::now() + grace.min(MAX_TIMEOUT);
        // Changes have tasks of their own and give way as soon as the shutdown begins.
        let _alone = self.changing.lock().await;
        let mut registered = self.registered();
        registered.extend(self.leaving.lock().iter().cloned());

        let drained = AssertUnwindSafe(self.drain(&registered, deadline, connected)).catch_unwind().await;
        let report = drained.unwrap_or_else(|_| ShutdownReport {
            errors: vec!["the adapter panicked".to_owned()],
            ..ShutdownReport::default()
        });
        registered.iter().for_each(|registered| registered.halt());
        self.cancellation.cancel();
        self.shared.calls.close();
        self.registrations.lock().clear();
        self.shared.advance(BridgeState::ShutDown);
        Link(Arc::clone(&self.shared)).disconnected("shut down");
        self.shared.raise(BridgeEvent::ShutDown);
        self.shared.home.end();
        self.report.send_replace(Some(report));
    }

    async fn drain(
        &self,
        registered: &[Arc<Registered<T>>],
        deadline: Instant,
        connected: bool,
    ) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        let (subscriptions, commands): (Vec<_>, Vec<_>) = registered
            .iter()
            .partition(|registered| registered.endpoint.key().0 == EndpointKind::Subscription);

        // Commands last: what runs may still invoke them.
        let mut in_time = timeout_at(deadline, finish(&subscriptions)).await.is_ok();
        in_time &= timeout_at(deadline, finish(&commands)).await.is_ok();
        if !in_time {
            report.cancelled_handlers = registered.iter().map(|registered| registered.in_hand.count()).sum();
        }
        let _answered_in_time = timeout_at(deadline, self.shared.calls.empty()).await;

        registered.iter().for_each(|registered| registered.halt());
        self.cancellation.cancel();
        report.failed_calls = self.shared.calls.close();
        if !connected {
            return report;
        }
        let _gave_up_in_time = timeout_at(deadline + HANDLER_PATIENCE, nothing_in_hand(registered)).await;
        let close = async {
            let mut closed = join_all(registered.iter().map(|registered| registered.close())).await;
            closed.push(self.transport.disconnect().await);
            closed
        };
        match timeout_at(deadline + PATIENCE, close).await {
            Ok(closed) => {
                let errors = closed.into_iter().filter_map(Result::err);
                report.errors.extend(errors.map(|error| error.to_string()));
            }
            Err(_) => report.errors.push("the connection did not close in time".to_owned()),
        }
        report
    }
}

/// Stops the intake, and waits for what is in hand.
async fn finish<T: Transport>(registered: &[&Arc<Registered<T>>]) {
    join_all(registered.iter().map(|registered| registered.stop(Stop::ShutDown))).await;
    join_all(registered.iter().map(|registered| registered.in_hand.empty())).await;
}

async fn nothing_in_hand<T: Transport>(registered: &[Arc<Registered<T>>]) {
    join_all(registered.iter().map(|registered| registered.in_hand.empty())).await;
}
