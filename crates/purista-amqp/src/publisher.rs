use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use lapin::{
    Channel, Confirmation,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use parking_lot::{Mutex, RwLock};
use purista_core::{ErrorKind, Id, Result};
use tokio::sync::Semaphore;

use crate::{
    error::{error, from_lapin},
    topology::Route,
};

/// By how many bytes the room for what is not confirmed is counted.
const UNIT: usize = 1_024;

/// A channel on which everything that is published is confirmed.
pub(crate) struct Publisher {
    connection: Arc<lapin::Connection>,
    channel: RwLock<Option<Arc<ConfirmChannel>>>,
    opening: tokio::sync::Mutex<()>,
    room: Arc<Room>,
}

struct ConfirmChannel {
    channel: Channel,
    /// The client numbers a message and queues it in two steps: who is in between keeps others out, as the broker
    /// numbers them as they come.
    in_order: Mutex<()>,
}

/// How much may be on its way to the broker without a confirm.
#[derive(Debug)]
pub(crate) struct Room {
    permits: Arc<Semaphore>,
    size: usize,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The broker has taken responsibility.
    Taken,
    /// A queue that it was routed to has no room.
    Refused,
    /// Nobody wants it, or another one that was published about the same time and has this message id: the client does
    /// not tell them apart.
    Returned(Returned),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) correlation_id: Option<Id>,
    /// Whether the broker refused the message all the same.
    pub(crate) is_taken: bool,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let size = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { permits: Arc::new(Semaphore::new(size)), size })
    }
}

impl Publisher {
    pub(crate) fn new(connection: Arc<lapin::Connection>, room: Arc<Room>) -> Self {
        Self { connection, channel: RwLock::default(), opening: tokio::sync::Mutex::default(), room }
    }

    /// Publishes a message, and waits for the broker's word. What was begun goes on to its end when this is dropped.
    pub(crate) async fn publish(&self, route: Route, payload: Bytes, mandatory: bool) -> Result<Verdict> {
        self.publish_and(route, payload, mandatory, |verdict| verdict).await
    }

    /// Publishes a message, and has something done with the broker's word before it is returned, also if this was dropped.
    pub(crate) async fn publish_and(
        &self,
        route: Route,
        payload: Bytes,
        mandatory: bool,
        settle: impl FnOnce(Verdict) -> Verdict + Send + 'static,
    ) -> Result<Verdict> {
        let units = (payload.len() / UNIT).clamp(1, self.room.size);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.room.permits).acquire_many_owned(units).await;
        let permits = permits.map_err(|_| error(ErrorKind::ShutDown, "send"))?;
        let channel = self.channel().await?;
        let outcome = ToTheEnd(Some(Box::pin(async move {
            let confirmation = channel.publish(route, &payload, mandatory).await;
            drop(permits);
            confirmation.map(|confirmation| settle(verdict(confirmation)))
        })));
        outcome.await.map_err(|cause| from_lapin(cause, "send"))
    }

    /// Returns the channel, which is opened anew after the broker has closed it.
    async fn channel(&self) -> Result<Arc<ConfirmChannel>> {
        if let Some(channel) = self.usable() {
            return Ok(channel);
        }
        let _opening = self.opening.lock().await;
        if let Some(channel) = self.usable() {
            return Ok(channel);
        }
        let open = async {
            let channel = self.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Arc::new(ConfirmChannel { channel, in_order: Mutex::default() }))
        };
        let channel = open.await.map_err(|cause: lapin::Error| from_lapin(cause, "send"))?;
        *self.channel.write() = Some(Arc::clone(&channel));
        Ok(channel)
    }

    fn usable(&self) -> Option<Arc<ConfirmChannel>> {
        let channel = self.channel.read();
        channel.as_ref().filter(|open| open.channel.status().connected()).cloned()
    }
}

impl ConfirmChannel {
    async fn publish(&self, route: Route, payload: &[u8], mandatory: bool) -> lapin::Result<Confirmation> {
        let Route { exchange, routing_key, properties } = route;
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange, routing_key, options, payload, properties);
        let mut sent = std::pin::pin!(sent);
        let mut is_queued = false;
        let confirm = poll_fn(|cx| {
            let _turn = (!is_queued).then(|| self.in_order.lock());
            is_queued = true;
            sent.as_mut().poll(cx)
        });
        confirm.await?.await
    }
}

fn verdict(confirmation: Confirmation) -> Verdict {
    let returned = |message: Box<BasicReturnMessage>, is_taken| {
        let correlation_id = message.properties.correlation_id().as_ref().map(|id| Id::from(id.as_str()));
        Verdict::Returned(Returned { correlation_id, is_taken })
    };
    match confirmation {
        Confirmation::Ack(None) | Confirmation::NotRequested => Verdict::Taken,
        Confirmation::Nack(None) => Verdict::Refused,
        Confirmation::Ack(Some(message)) => returned(Box::new(message), true),
        Confirmation::Nack(Some(message)) => returned(Box::new(message), false),
    }
}

/// A future that goes on in the background when nobody waits for it any more: the client would keep what belongs to it
/// for ever otherwise.
struct ToTheEnd<F: Future + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future + Send + 'static> Future for ToTheEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let output = future.as_mut().poll(cx);
        if output.is_ready() {
            self.0 = None;
        }
        output
    }
}

impl<F: Future + Send + 'static> Drop for ToTheEnd<F> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                future.await;
            });
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("room", &self.room).finish_non_exhaustive()
    }
}
