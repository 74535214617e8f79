use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use purista_core::adapter::Backoff;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{connection::Connection, session::Session};

/// How long it may take to restore everything on a new connection before that is tried again.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects again whenever the connection is lost, and restores what is on it.
pub(crate) async fn supervise(
    connection: Weak<Connection>,
    mut session: Arc<Session>,
    closing: CancellationToken,
) {
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = session.lost() => {}
        }
        let Some(current) = connection.upgrade() else { return };
        if closing.is_cancelled() {
            return;
        }
        current.went_down("the connection to the broker was lost");
        let mut backoff = Backoff::new(Duration::from_millis(100), current.config.max_reconnect_delay);
        drop(current);
        session = loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = sleep(backoff.next_delay()) => {}
            }
            // Without a strong reference while it waits, so that a bridge that was dropped is noticed.
            let Some(current) = connection.upgrade() else { return };
            let restored = tokio::select! {
                () = closing.cancelled() => return,
                restored = timeout(RESTORE_TIMEOUT, current.restore()) => restored,
            };
            match restored {
                Ok(Ok(session)) if !session.is_lost() => {
                    current.came_up();
                    break session;
                }
                Ok(Ok(_)) => tracing::debug!("a new connection was lost at once"),
                Ok(Err(error)) => tracing::debug!(%error, "not connected again"),
                Err(_) => tracing::debug!("a new connection could not be restored in time"),
            }
        };
    }
}
