//! Looks after the subscriptions of a connection, as the server can end them without ending the connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use purista_core::adapter::Backoff;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{connection::Connection, routes::Routes};

/// How often one looks whether replies still come.
const PROBE: Duration = Duration::from_secs(5);

/// How often the server is asked which subscriptions it has of this connection.
const COMPARE: Duration = Duration::from_secs(60);

/// How many subscriptions are sent again at once: fewer than the client keeps refusals.
const AT_ONCE: usize = 64;

/// The longest pause between two attempts to subscribe again, and so about how long a permission is back before it is used.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A service that each account has for its own connections, if permissions allow it.
const OWN_CONNECTIONS: &str = "$SYS.REQ.ACCOUNT.PING.CONNZ";

/// Looks after the subscriptions until the connection ends.
pub(crate) async fn heal(connection: Weak<Connection>, routes: Arc<Routes>, closing: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE);
    let mut look = Look { probed: Instant::now(), compared: Instant::now(), can_compare: None };
    let mut pause = PROBE;
    loop {
        let is_in_doubt = tokio::select! {
            () = closing.cancelled() => return,
            () = routes.changed.notified() => false,
            () = routes.inbox_in_doubt.notified() => true,
            () = sleep(pause) => false,
        };
        // Without a strong reference until here, so that a bridge that was dropped is noticed.
        let Some(current) = connection.upgrade() else { return };
        if !current.is_up() {
            pause = Duration::from_millis(500);
            continue;
        }
        pause = tokio::select! {
            () = closing.cancelled() => return,
            pause = current.heal_once(&routes, &mut look, is_in_doubt, &mut backoff) => pause,
        };
    }
}

struct Look {
    probed: Instant,
    compared: Instant,
    /// Whether the server says which subscriptions it has, on which connection; `None` before it was asked.
    can_compare: Option<(u64, bool)>,
}

impl Connection {
    /// Returns how long to wait before the next time.
    async fn heal_once(
        &self,
        routes: &Routes,
        look: &mut Look,
        is_in_doubt: bool,
        backoff: &mut Backoff,
    ) -> Duration {
        if is_in_doubt || look.probed.elapsed() >= PROBE {
            look.probed = Instant::now();
            let before = self.id();
            if let Err(error) = self.round_trip().await {
                if self.is_up() && self.is_connected() && self.id() == before {
                    self.lost_replies(&error.to_string());
                }
                return PROBE;
            }
        }
        let doubts = routes.take_doubt();
        if doubts || look.compared.elapsed() >= COMPARE {
            look.compared = Instant::now();
            let is_compared = self.compare_with_server(routes, look).await;
            if doubts && !is_compared {
                routes.lose_where(|route| !route.is_inbox(), "the server may have ended the subscription");
            }
        }
        loop {
            let lost = routes.lost(AT_ONCE);
            if lost.is_empty() {
                backoff.reset();
                return PROBE;
            }
            match self.subscribe_again(lost).await {
                Ok(restored) if restored > 0 => backoff.reset(),
                Ok(_) => return backoff.next_delay(),
                Err(error) => {
                    tracing::debug!(%error, "subscriptions could not be restored");
                    return backoff.next_delay();
                }
            }
        }
    }

    /// Asks the server which subscriptions it has, and loses those that it has not. Returns whether it said so.
    async fn compare_with_server(&self, routes: &Routes, look: &mut Look) -> bool {
        let info = self.server_info();
        if look.can_compare == Some((info.client_id, false)) {
            return false;
        }
        let request = json!({
            "cid": info.client_id, "subscriptions_list_detail": true, "subscriptions_detail": true,
            "server_name": info.server_name, "exact_match": true,
        });
        let answer = self.ask_server(OWN_CONNECTIONS, Bytes::from(request.to_string())).await;
        let known = answer.and_then(|answer| serde_json::from_slice::<Connz>(&answer).ok());
        let known = known.filter(|known| known.server.id == info.server_id);
        let known =
            known.and_then(|known| known.data.connections.into_iter().find(|it| it.cid == info.client_id));
        look.can_compare = Some((info.client_id, known.is_some()));
        let Some(known) = known else { return false };
        routes.compare(known.subscriptions.into_iter().map(|it| (it.subject, it.queue_group)));
        true
    }
}

#[derive(Deserialize)]
struct Connz {
    server: Server,
    data: Connections,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Connections {
    connections: Vec<KnownConnection>,
}

#[derive(Deserialize)]
struct KnownConnection {
    cid: u64,
    #[serde(default, rename = "subscriptions_list_detail")]
    subscriptions: Vec<KnownSubscription>,
}

#[derive(Deserialize)]
struct KnownSubscription {
    subject: String,
    #[serde(rename = "qgroup")]
    queue_group: Option<String>,
}
