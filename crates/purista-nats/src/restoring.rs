//! Subscriptions of a connection, and the restoration of all that is on it.

use std::{sync::Arc, time::Duration};

use async_nats::Subscriber;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use purista_core::{Error, ErrorKind, Result};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    connection::Connection,
    consuming::PartHealth,
    error::error,
    routes::{Attempt, Route},
    subscription::Subscription,
};

/// How many consumers are restored at once.
const RESTORED_AT_ONCE: usize = 64;

/// How long the reason of a connection's end may come after it.
const REASON_PATIENCE: Duration = Duration::from_millis(250);

/// How long the restoration of a consumer may hold up that of the connection. Afterwards the consumer restores itself.
pub(crate) const RESTORE_PATIENCE: Duration = Duration::from_secs(5);

impl Connection {
    /// Subscribes for a part of a registration; returns when the server routes to us. The subscription is restored
    /// whenever the server ends it.
    pub(crate) async fn subscribe(
        &self,
        subject: String,
        queue_group: Option<String>,
        health: PartHealth,
    ) -> Result<Subscription> {
        let (attempt, subscriber) = self.send_subscription(&subject, queue_group.as_deref()).await?;
        self.confirm(&attempt).await?;
        Ok(Subscription::new(subscriber, self.routes.add(subject, queue_group, Some(health))))
    }

    /// Subscribes again to what was lost. Returns how many are back.
    pub(crate) async fn subscribe_again(&self, lost: Vec<Arc<Route>>) -> Result<usize> {
        let mut sent = Vec::with_capacity(lost.len());
        for route in lost {
            let (attempt, subscriber) =
                self.send_subscription(&route.subject, route.queue_group.as_deref()).await?;
            sent.push((route, attempt, subscriber));
        }
        self.round_trip_after_refusal().await?;
        sent.retain(|(_, attempt, _)| attempt.refusal().is_none());
        let restored = sent.len();
        sent.into_iter().for_each(|(route, _, subscriber)| route.replace(subscriber));
        Ok(restored)
    }

    async fn send_subscription(
        &self,
        subject: &str,
        queue_group: Option<&str>,
    ) -> Result<(Arc<Attempt>, Subscriber)> {
        let attempt = self.routes.attempt(subject, queue_group);
        let subscriber = match queue_group {
            Some(group) => self.client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
            None => self.client.subscribe(subject.to_owned()).await,
        };
        Ok((attempt, subscriber.map_err(from_subscribe)?))
    }

    /// Waits until the server has taken a subscription, or has refused it.
    pub(crate) async fn confirm(&self, attempt: &Attempt) -> Result<()> {
        tokio::select! {
            biased;
            refusal = attempt.refused() => Err(refusal),
            done = self.round_trip_after_refusal() => match attempt.refusal() {
                Some(refusal) => Err(refusal),
                None if done.is_ok() => done,
                // The end of a connection can be heard before its reason.
                None => timeout(REASON_PATIENCE, attempt.refused()).await.map_or(done, Err),
            },
        }
    }

    /// Restores what the client does not restore by itself.
    pub(crate) async fn restore(&self) -> Result<()> {
        if self.has_inbox() {
            self.round_trip().await?;
        } else {
            let (attempt, subscriber) = self.send_subscription(&self.inbox_route.subject, None).await?;
            // The round trip is read there.
            self.inbox_route.replace(subscriber);
            if let Err(refusal) = self.confirm(&attempt).await {
                self.inbox_route.lose(&refusal.to_string());
                return Err(refusal);
            }
        }
        let turns = Arc::new(Semaphore::new(RESTORED_AT_ONCE));
        let mut restoring: FuturesUnordered<BoxFuture<'static, Result<bool>>> = FuturesUnordered::new();
        for what in self.restored() {
            let turns = Arc::clone(&turns);
            restoring.push(Box::pin(async move {
                let _turn = turns.acquire().await;
                what.restore().await
            }));
        }
        let mut was_forgotten = false;
        // What takes longer goes on by itself, and health says so.
        let _in_time = timeout(RESTORE_PATIENCE, async {
            while let Some(outcome) = restoring.next().await {
                match outcome {
                    Ok(forgotten) => was_forgotten |= forgotten,
                    Err(error) => tracing::debug!(%error, "a consumer is not restored yet"),
                }
            }
        })
        .await;
        drop(restoring);
        if was_forgotten {
            self.link().session_lost();
        }
        Ok(())
    }
}

pub(crate) fn from_subscribe(cause: async_nats::SubscribeError) -> Error {
    error(ErrorKind::Unavailable, "register").with_source(cause)
}
