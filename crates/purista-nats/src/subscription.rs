use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};

use crate::{connection::Connection, routes::Route};

/// How long nothing may come before a subscription counts as quiet.
const QUIET: Duration = Duration::from_millis(20);

/// How long the last messages of a subscription that is not quiet may take.
const LAST_ONES: Duration = Duration::from_secs(5);

/// A subscription that counts what it got, to end without a gap, and goes on with another one when it was lost.
#[derive(Debug)]
pub(crate) struct Subscription {
    subscriber: Subscriber,
    received: u64,
    route: Arc<Route>,
    /// The one before, as long as something is in there.
    before: Option<Subscriber>,
    was_replaced: bool,
}

impl Subscription {
    pub(crate) const fn new(subscriber: Subscriber, route: Arc<Route>) -> Self {
        Self { subscriber, received: 0, route, before: None, was_replaced: false }
    }

    /// Returns the next message; `None` when the subscription has ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(before) = &mut self.before {
                match before.next().now_or_never().flatten() {
                    Some(message) => return Some(message),
                    None => self.before = None,
                }
            }
            tokio::select! {
                biased;
                message = self.subscriber.next() => {
                    let message = message?;
                    self.received += 1;
                    return Some(message);
                }
                replacement = self.route.replaced() => {
                    self.before = Some(std::mem::replace(&mut self.subscriber, replacement));
                    self.received = 0;
                    self.was_replaced = true;
                }
            }
        }
    }

    /// Returns whether it goes on with another one since this was asked last.
    pub(crate) const fn take_replaced(&mut self) -> bool {
        std::mem::replace(&mut self.was_replaced, false)
    }

    /// Ends the subscription, and hands over what comes until it has ended.
    ///
    /// The client forgets a subscription before the server has ended it, and drops what comes in between. So the server
    /// is asked to end a busy one by itself after some more messages, more than can be under way.
    pub(crate) async fn drain(&mut self, connection: &Connection, mut take: impl FnMut(Message)) {
        if connection.is_up() {
            let before = self.received;
            if self.take_for_a_round_trip(connection, &mut take).await.is_none() {
                return;
            }
            let per_round_trip = self.received - before;
            if per_round_trip > 0 || self.is_busy(&mut take).await {
                let last = self.received + 2 * per_round_trip + 8;
                // Without a connection there is nothing to end.
                let _ended = self.subscriber.unsubscribe_after(last).await;
                if self.take_while_busy(connection, &mut take).await.is_none() {
                    return;
                }
            }
        }
        let _ended = self.subscriber.unsubscribe().await;
        // What the client had received is still in here.
        while let Some(message) = self.next().await {
            take(message);
        }
    }

    /// Takes what comes until the subscription has ended (`None`), or nothing has come for a way to the server and back.
    async fn take_while_busy(
        &mut self,
        connection: &Connection,
        take: &mut impl FnMut(Message),
    ) -> Option<()> {
        let deadline = Instant::now() + LAST_ONES;
        loop {
            let before = self.received;
            self.take_for_a_round_trip(connection, take).await?;
            if self.received == before || Instant::now() >= deadline {
                return Some(());
            }
        }
    }

    /// Takes what the server has sent up to now; `None` if the subscription has ended.
    async fn take_for_a_round_trip(
        &mut self,
        connection: &Connection,
        take: &mut impl FnMut(Message),
    ) -> Option<()> {
        let round_trip = timeout(LAST_ONES, connection.round_trip());
        tokio::pin!(round_trip);
        loop {
            tokio::select! {
                _there_and_back = &mut round_trip => break,
                message = self.next() => take(message?),
            }
        }
        // What came before the answer is in here by now.
        while let Some(message) = self.next().now_or_never() {
            take(message?);
        }
        Some(())
    }

    async fn is_busy(&mut self, take: &mut impl FnMut(Message)) -> bool {
        match timeout(QUIET, self.next()).await {
            Ok(Some(message)) => {
                take(message);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }
}
