use std::{sync::Weak, time::Duration};

use async_nats::{Event, ServerError};
use futures_util::future::BoxFuture;
use purista_core::adapter::Backoff;
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};
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
    let mut restoring: Option<BoxFuture<'static, bool>> = None;
    loop {
        {
            let Some(current) = connection.upgrade() else { return };
            current.expire_replies();
            if restoring.is_none() && !current.is_up() && current.is_connected() {
                restoring = Some(Box::pin(restore(Weak::clone(&connection), backoff.next_delay())));
            }
        }
        let event = tokio::select! {
            biased;
            () = closing.cancelled() => {
                // From here on, nobody looks after those who wait.
                if let Some(connection) = connection.upgrade() {
                    connection.lose_replies();
                }
                return;
            }
            event = events.recv() => event,
            is_restored = async { restoring.as_mut()?.await.then_some(()) }, if restoring.is_some() => {
                restoring = None;
                if let (Some(()), Some(connection)) = (is_restored, connection.upgrade()) {
                    backoff.reset();
                    known = connection.id();
                    connection.came_up();
                }
                continue;
            }
            _tick = reconcile.tick() => None,
        };
        let Some(connection) = connection.upgrade() else { return };
        let mut is_expected = event.is_none();
        match event {
            Some(Event::ServerError(error)) => is_expected = connection.refused_by_server(&text(&error)),
            Some(Event::ClientError(error)) => {
                tracing::debug!(%error, "the client reports");
                connection.not_connected_again(&error);
            }
            Some(Event::Disconnected) => {
                restoring = None;
                connection.lost();
            }
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
        if !is_expected && connection.refusals.is_burst() {
            connection.routes.doubt();
        }
    }
}

/// Returns what the server said.
pub(crate) fn text(error: &ServerError) -> String {
    match error {
        ServerError::Other(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn restore(connection: Weak<Connection>, pause: Duration) -> bool {
    let Some(connection) = connection.upgrade() else { return false };
    match timeout(RESTORE_TIMEOUT, connection.restore()).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::debug!(%error, "a new connection could not be restored"),
        Err(_) => tracing::debug!("a new connection could not be restored in time"),
    }
    sleep(pause).await;
    false
}
