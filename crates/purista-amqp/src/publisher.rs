use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use lapin::{
    Confirmation, PublisherConfirm,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
};
use parking_lot::{Mutex, RwLock};
use purista_core::{Id, Result};

use crate::{
    channels::{Channels, OpenChannel},
    error::from_lapin,
    topology::Route,
};

/// A message on its way to the broker.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) route: Route,
    pub(crate) payload: Bytes,
    /// Whether it comes back if no queue gets it.
    pub(crate) mandatory: bool,
}

/// A channel on which everything that is published is confirmed; opened anew after the broker has closed it.
pub(crate) struct Publisher {
    channels: Arc<Channels>,
    channel: RwLock<Option<Arc<ConfirmChannel>>>,
    opening: tokio::sync::Mutex<()>,
}

pub(crate) struct ConfirmChannel {
    channel: OpenChannel,
    /// The client numbers a message and queues it in two steps: who is in between keeps others out, as the broker
    /// numbers them as they come.
    in_order: Mutex<()>,
    is_mourned: AtomicBool,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// The broker has taken responsibility.
    Taken,
    /// A queue that it was routed to has no room.
    Refused,
    /// Nobody wants it, or another one that was published about the same time and has this message id: the client does
    /// not tell them apart.
    Returned(Returned),
    /// There is no such exchange.
    NoExchange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) correlation_id: Option<Id>,
    /// Whether the broker refused the message all the same.
    pub(crate) is_taken: bool,
}

impl Publisher {
    pub(crate) fn new(channels: Arc<Channels>) -> Self {
        Self { channels, channel: RwLock::default(), opening: tokio::sync::Mutex::default() }
    }

    /// Returns the channel, which is opened anew after the broker has closed it.
    pub(crate) async fn channel(&self) -> Result<Arc<ConfirmChannel>> {
        if let Some(channel) = self.usable() {
            return Ok(channel);
        }
        let _opening = self.opening.lock().await;
        if let Some(channel) = self.usable() {
            return Ok(channel);
        }
        // What is left of the old one frees its place first.
        *self.channel.write() = None;
        let channel = self.channels.channel().await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|cause| from_lapin(cause, "send"))?;
        let channel =
            ConfirmChannel { channel, in_order: Mutex::default(), is_mourned: AtomicBool::new(false) };
        let channel = Arc::new(channel);
        *self.channel.write() = Some(Arc::clone(&channel));
        Ok(channel)
    }

    fn usable(&self) -> Option<Arc<ConfirmChannel>> {
        let channel = self.channel.read();
        channel.as_ref().filter(|open| open.channel.status().connected()).cloned()
    }
}

impl ConfirmChannel {
    /// Sends a message. What is to be done when its place among others is certain is done as soon as it is.
    pub(crate) async fn send(&self, post: &Post, in_line: impl FnOnce()) -> lapin::Result<PublisherConfirm> {
        let Route { exchange, routing_key, properties } = post.route.clone();
        let options = BasicPublishOptions { mandatory: post.mandatory, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange, routing_key, options, &post.payload, properties);
        let mut sent = std::pin::pin!(sent);
        let mut in_line = Some(in_line);
        poll_fn(|cx| {
            let Some(in_line) = in_line.take() else { return sent.as_mut().poll(cx) };
            let polled = {
                let _turn = self.in_order.lock();
                sent.as_mut().poll(cx)
            };
            in_line();
            polled
        })
        .await
    }

    /// Waits until the broker has looked at all that was sent before: it answers in order, and what it refuses closes the
    /// channel instead.
    pub(crate) async fn is_looked_at(&self) -> lapin::Result<()> {
        self.channel.basic_qos(0, BasicQosOptions::default()).await
    }

    /// Returns whether this is the first one to hear that the channel was closed.
    pub(crate) fn mourn(&self) -> bool {
        !self.is_mourned.swap(true, Ordering::AcqRel)
    }
}

impl From<Confirmation> for Confirm {
    fn from(confirmation: Confirmation) -> Self {
        let returned = |message: Box<BasicReturnMessage>, is_taken| {
            let correlation_id = message.properties.correlation_id().as_ref().map(|id| Id::from(id.as_str()));
            Self::Returned(Returned { correlation_id, is_taken })
        };
        match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => Self::Taken,
            Confirmation::Nack(None) => Self::Refused,
            Confirmation::Ack(Some(message)) => returned(Box::new(message), true),
            Confirmation::Nack(Some(message)) => returned(Box::new(message), false),
        }
    }
}

/// A future that goes on in the background when nobody waits for it any more: the client would keep what belongs to it
/// for ever otherwise.
pub(crate) struct ToTheEnd<F: Future + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future + Send + 'static> ToTheEnd<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

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
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}
