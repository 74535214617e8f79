use std::sync::{Arc, OnceLock};

use rumqttc::{AsyncClient, Event, EventLoop, Packet};
use tokio_util::sync::CancellationToken;

use crate::{
    error::cut,
    packet_size::Sizes,
    session::{Arrival, Inbox},
};

/// Drives a connection: nothing else happens here, so that it never waits for what waits for it.
pub(crate) struct Polling<I> {
    pub(crate) events: EventLoop,
    pub(crate) client: Arc<AsyncClient>,
    pub(crate) inbox: I,
    pub(crate) lost: CancellationToken,
    pub(crate) loss: Arc<OnceLock<Loss>>,
    pub(crate) sizes: Arc<Sizes>,
    pub(crate) end: CancellationToken,
}

/// Why a connection was lost.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    pub(crate) cut: Cut,
}

/// What a loss says about the packets that were under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// One of them was too large.
    TooLarge,
    /// The other end closed the connection, or sent what cannot be read: one of them may have been too large.
    Unclear,
    /// Another connection has the same client id.
    TakenOver,
    /// Nothing.
    Other,
}

impl<I: Inbox> Polling<I> {
    pub(crate) async fn run(self) {
        let Self { mut events, client, inbox, lost, loss, sizes, end } = self;
        // Also if it unwinds.
        let _lost = lost.drop_guard();
        let poll = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let arrival = Arrival { publish, client: Arc::clone(&client), copy: None };
                        inbox.take(arrival).await;
                    }
                    Ok(_) => {}
                    Err(cause) => {
                        sizes.lost();
                        let _only = loss.set(Loss { reason: cause.to_string(), cut: cut(&cause) });
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = poll => {}
            () = end.cancelled() => {}
        }
    }
}
