use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use lapin::{Connection, Event};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::soft_error;

/// How often the state of a connection is compared with what its events told.
const RECONCILE: Duration = Duration::from_secs(1);

/// How long the broker may take to say why it closes a connection.
const GOODBYE: Duration = Duration::from_millis(250);

/// What the connections of one session tell: they are lost together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    is_blocked: watch::Sender<bool>,
    lost: CancellationToken,
    /// What the broker or the client told of the loss.
    why: Arc<Mutex<Option<lapin::Error>>>,
    /// Cancelled when we end one connection, and the session goes on.
    ended: CancellationToken,
}

impl Watch {
    /// Returns a watch for one connection, which can end alone.
    pub(crate) fn one_of_several(&self) -> Self {
        Self { ended: CancellationToken::new(), ..self.clone() }
    }

    /// Follows what the broker and the client tell of a connection, until it or the session is over.
    pub(crate) fn follow(&self, connection: &Arc<Connection>) {
        // The client tells nobody what nobody listens to: from here on, not from when the task runs.
        let events = connection.events_listener();
        tokio::spawn(follow(Arc::clone(connection), events, self.clone()));
    }

    /// Returns whether the broker takes no messages at the moment, as it is short of memory or disk.
    pub(crate) fn is_blocked(&self) -> bool {
        *self.is_blocked.borrow()
    }

    /// Waits until whether the broker takes messages is not what it was. Cancel safe.
    pub(crate) async fn block_changed(&self, was_blocked: bool) {
        let mut is_blocked = self.is_blocked.subscribe();
        drop(is_blocked.wait_for(|blocked| *blocked != was_blocked).await);
    }

    /// Waits until the broker takes messages. Cancel safe.
    pub(crate) async fn unblocked(&self) {
        // The sender lives as long as this.
        let mut is_blocked = self.is_blocked.subscribe();
        drop(is_blocked.wait_for(|blocked| !*blocked).await);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until a connection is lost. Cancel safe.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Returns why the session was lost, if anybody told. Call it when a connection is not usable any more.
    pub(crate) async fn why_lost(&self) -> Option<lapin::Error> {
        // What is told comes a moment later than the failure itself; if nothing is, the second look shows the loss.
        timeout(3 * RECONCILE, self.lost()).await.ok()?;
        self.why.lock().clone()
    }

    /// Says that the session is over.
    pub(crate) fn end(&self) {
        self.lost.cancel();
    }

    /// Ends the session unless the guard is disarmed.
    pub(crate) fn ends_when_dropped(&self) -> DropGuard {
        self.lost.clone().drop_guard()
    }

    /// Says that the connection which this follows ends, and the session goes on.
    pub(crate) fn end_this_one(&self) {
        self.ended.cancel();
    }
}

async fn follow(connection: Arc<Connection>, events: impl Stream<Item = Event>, watch: Watch) {
    let mut events = std::pin::pin!(events);
    let mut reconcile = interval(RECONCILE);
    reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked_lost = false;
    loop {
        let event = tokio::select! {
            // A connection that we end is not a session that is lost, also if both are seen at once.
            biased;
            () = watch.ended.cancelled() => return,
            () = watch.lost() => break,
            event = events.next() => event,
            _tick = reconcile.tick() => {
                // While a connection closes, what is told of it is still to come.
                if looked_lost {
                    break;
                }
                looked_lost = !connection.status().connected();
                if looked_lost {
                    reconcile.reset_after(GOODBYE);
                }
                continue;
            }
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker takes no messages");
                watch.is_blocked.send_replace(true);
            }
            Some(Event::ConnectionUnblocked) => {
                watch.is_blocked.send_replace(false);
            }
            // Also the errors of channels come here, which are soft.
            Some(Event::Error(why)) if !connection.status().connected() => {
                let is_of_connection = soft_error(&why).is_none();
                watch.why.lock().get_or_insert(why);
                if is_of_connection {
                    break;
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    watch.end();
}
