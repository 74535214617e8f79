use std::{sync::Weak, time::Duration};

use async_nats::{Event, ServerError};
use purista_core::adapter::Backoff;
use tokio::{sync::mpsc, time::interval};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, ConnectionId};

/// How often the state of the connection is compared with what its events told.
const RECONCILE: Duration = Duration::from_millis(500);

/// How long it may take to restore everything on a new connection before that is tried again.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Follows the state of the connection, and restores what is on it.
pub(crate) async fn supervise(
    connection: Weak<Connection>,
    mut events: mpsc::Receiver<Event>,
    closing: CancellationToken,
    mut known: ConnectionId,
) {
    let mut reconcile = interval(RECONCILE);
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let Some(current) = connection.upgrade() else { return };
        current.expire_replies();
        // Without a strong reference, so that a bridge that was dropped is noticed.
        let restoring = (!current.is_up() && current.is_connected()).then_some(current);
        let event = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            event = events.recv() => event,
            outcome = restore(restoring.as_deref()) => {
                if outcome {
                    backoff.reset();
                    if let Some(connection) = &restoring {
                        known = connection.id();
                        connection.came_up();
                    }
                } else {
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                continue;
            }
            _tick = reconcile.tick(), if restoring.is_none() => None,
        };
        let Some(connection) = connection.upgrade() else { return };
        match event {
            Some(Event::ServerError(ServerError::Other(text))) => connection.refused_by_server(&text),
            Some(Event::Disconnected) => connection.lost(),
            Some(Event::SlowConsumer(subscription)) => {
                tracing::warn!(subscription, "the client had no room for a message: it is lost");
            }
            Some(_) => {}
            // Events can be lost when many come at once.
            None if connection.is_up() && (!connection.is_connected() || connection.id() != known) => {
                connection.lost();
            }
            None => {}
        }
    }
}

async fn restore(connection: Option<&Connection>) -> bool {
    let Some(connection) = connection else { return std::future::pending().await };
    match tokio::time::timeout(RESTORE_TIMEOUT, connection.restore()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a new connection could not be restored");
            false
        }
        Err(_) => {
            tracing::debug!("a new connection could not be restored in time");
            false
        }
    }
}
