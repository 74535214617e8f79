use std::{
    error::Error as StdError,
    ops::Deref,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{Backoff, Connectivity, Throttle};
use crate::error::{Error, ErrorKind, Result};

/// How long it may take to restore everything on a new connection before that is tried again.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that is made again whenever it is lost, for a client that does not do so itself.
pub trait Reconnect: Deref<Target = Connectivity> + Send + Sync + 'static {
    /// One connection of the client, which never comes back.
    type Session: Send + Sync + 'static;

    /// Returns how long a connection has to last for the pauses to start anew; they do after each by default. Two clients
    /// that throw each other out, as a broker does whose clients have the same id, do so less and less often with it.
    fn steady_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Connects again, and restores everything.
    fn restore(&self) -> impl Future<Output = Result<Arc<Self::Session>>> + Send;

    /// Waits until a connection is lost. Returns why, and at once if it is lost already.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    fn lost(session: &Self::Session) -> impl Future<Output = String> + Send;
}

/// Connects again whenever the connection is lost, until it is dropped or [closing](Connectivity::closing). The pauses between
/// two attempts grow from 100 ms to `max_delay`.
pub async fn keep_connected<C: Reconnect>(
    connection: Weak<C>,
    mut session: Arc<C::Session>,
    max_delay: Duration,
) {
    let Some(closing) = connection.upgrade().map(|current| current.closing().clone()) else {
        return;
    };
    let mut backoff = Backoff::default();
    let throttle = Throttle::default();
    let mut since = None;
    loop {
        let reason = tokio::select! {
            () = closing.cancelled() => return,
            reason = C::lost(&session) => reason,
        };
        let Some(current) = connection.upgrade() else { return };
        if closing.is_cancelled() {
            return;
        }
        current.went_down(&reason);
        if since.is_none_or(|since: Instant| since.elapsed() >= current.steady_after()) {
            backoff = Backoff::new(Duration::from_millis(100), max_delay);
        }
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
            match &restored {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => current.link().not_connected_again(error),
                Err(_) => {
                    let late = Error::new(ErrorKind::Timeout, "start").with_context("not restored in time");
                    current.link().not_connected_again(&late);
                }
            }
            match restored {
                Ok(Ok(session)) if C::lost(&session).now_or_never().is_none() => {
                    current.came_up();
                    since = Some(Instant::now());
                    break session;
                }
                Ok(Ok(_)) => tracing::debug!("a new connection was lost at once"),
                Ok(Err(error)) if error.kind().is_temporary() => {
                    tracing::debug!(%error, "not connected again");
                }
                // Such as a certificate on disk that cannot be read: somebody has to do something.
                Ok(Err(error)) => throttle.log(|suppressed| {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(%error, cause, suppressed, "not connected again");
                }),
                Err(_) => tracing::debug!("a new connection could not be restored in time"),
            }
        };
    }
}
