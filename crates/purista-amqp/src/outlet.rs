//! The way out: everything that is published goes through here, so that what the broker refuses fails alone.

use std::{sync::Arc, time::Duration};

use lapin::{Confirmation, PublisherConfirm, protocol::AMQPSoftError};
use parking_lot::Mutex;
use purista_core::{Error, ErrorKind, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    channels::Channels,
    codec::size_of,
    error::{error, from_lapin, from_publish, max_message_size, soft_error},
    publisher::{Confirm, ConfirmChannel, Post, Publisher, ToTheEnd},
    trust::{InLine, Line, Trust},
};

/// By how many bytes the room for what is not confirmed is counted.
const UNIT: usize = 1_024;

/// How many messages are looked at alone at the same time, each on a channel of its own.
const LANES: usize = 4;

/// How long a lane waits for the confirm of a message that the broker has looked at, before the next one comes.
const LINGERING: Duration = Duration::from_millis(250);

/// The channels to publish of one session.
#[derive(Debug)]
pub(crate) struct Outlet {
    channels: Arc<Channels>,
    events: Publisher,
    commands: Publisher,
    responses: Publisher,
    /// For one message at a time, whose return cannot be taken for that of another.
    one_by_one: tokio::sync::Mutex<Publisher>,
    lanes: Arc<Lanes>,
    trust: Arc<Trust>,
    room: Arc<Semaphore>,
    room_size: usize,
}

/// Which channel a message goes over when the broker is known to take the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Events,
    Commands,
    Responses,
    OneByOne,
}

/// Channels for messages that the broker may refuse.
#[derive(Debug)]
struct Lanes {
    free: Arc<Semaphore>,
    publishers: Mutex<Vec<Publisher>>,
}

/// A lane that one message has for itself.
struct Lane {
    publisher: Option<Publisher>,
    lanes: Arc<Lanes>,
    _free: OwnedSemaphorePermit,
}

/// Why a message was not confirmed.
enum Failure {
    /// The broker does not want it.
    Refused(lapin::Error),
    /// Its channel was closed; nothing is known about the message.
    ChannelClosed,
    /// It cannot be sent over this connection.
    Failed(Error),
}

impl Outlet {
    pub(crate) fn new(channels: Channels, max_unconfirmed_bytes: usize) -> Self {
        let channels = Arc::new(channels);
        let room_size = (max_unconfirmed_bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let publisher = || Publisher::new(Arc::clone(&channels));
        Self {
            events: publisher(),
            commands: publisher(),
            responses: publisher(),
            one_by_one: tokio::sync::Mutex::new(publisher()),
            lanes: Arc::new(Lanes {
                free: Arc::new(Semaphore::new(LANES)),
                publishers: Mutex::new((0..LANES).map(|_| publisher()).collect()),
            }),
            channels,
            trust: Arc::new(Trust::new()),
            room: Arc::new(Semaphore::new(room_size)),
            room_size,
        }
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Publishes a message, and waits for the broker's word. What was begun goes on to its end when this is dropped.
    pub(crate) async fn publish(&self, way: Way, post: Post) -> Result<Confirm> {
        self.publish_and(way, post, |confirm| confirm).await
    }

    /// Publishes a message, and has something done with the broker's word before it is returned, also if this was
    /// dropped. When the broker refuses another message on its channel, this one is published again.
    pub(crate) async fn publish_and(
        &self,
        way: Way,
        post: Post,
        settle: impl FnOnce(Confirm) -> Confirm + Clone + Send + 'static,
    ) -> Result<Confirm> {
        let size = post.payload.len();
        let (properties, max) = (size_of(&post.route.properties), self.channels.max_properties());
        if properties > max {
            // The broker would end the connection.
            let context =
                format!("its properties need {properties} bytes, and the broker's frame_max leaves {max}");
            return Err(error(ErrorKind::InvalidMessage, "send").with_context(context));
        }
        loop {
            if let Some(limit) = self.trust.limit_for(size) {
                let too_large = error(ErrorKind::payload_too_large(size, limit), "send");
                return Err(too_large.with_context("the broker's max_message_size"));
            }
            let line = self.trust.line(&post.route);
            let place = self.trust.queue(&line, size).await;
            let settle = settle.clone();
            let published = match place {
                Some(place) if !self.trust.trusts(&line, size) => {
                    self.alone(&line, place, post.clone(), settle).await
                }
                place => self.with_others(way, place, post.clone(), settle).await,
            };
            match published {
                Ok(confirm) => return Ok(confirm),
                Err(Failure::ChannelClosed) => {}
                Err(Failure::Failed(error)) => return Err(error),
                Err(Failure::Refused(cause)) => {
                    if soft_error(&cause) == Some(AMQPSoftError::NOTFOUND) {
                        return Ok(Confirm::NoExchange);
                    }
                    self.trust.refused(&line);
                    if let Some(limit) = max_message_size(&cause) {
                        self.trust.limit_to(limit);
                    }
                    return Err(from_publish(cause, size));
                }
            }
        }
    }

    /// Publishes over a channel that others use too.
    async fn with_others(
        &self,
        way: Way,
        place: Option<InLine>,
        post: Post,
        settle: impl FnOnce(Confirm) -> Confirm + Send + 'static,
    ) -> Result<Confirm, Failure> {
        let one_by_one;
        let publisher = match way {
            Way::Events => &self.events,
            Way::Commands => &self.commands,
            Way::Responses => &self.responses,
            Way::OneByOne => {
                one_by_one = self.one_by_one.lock().await;
                &*one_by_one
            }
        };
        let permits = self.permits(post.payload.len()).await?;
        let channel = publisher.channel().await.map_err(Failure::Failed)?;
        let trust = Arc::clone(&self.trust);
        ToTheEnd::new(async move {
            let confirmed = async { channel.send(&post, || drop(place)).await?.await }.await;
            drop(permits);
            confirmed.map(|confirmation| settle(confirmation.into())).map_err(|cause| {
                if soft_error(&cause).is_some() && channel.mourn() {
                    if let Some(limit) = max_message_size(&cause) {
                        trust.limit_to(limit);
                    }
                    tracing::warn!(%cause, "the broker refused what it took before: it is found out what that was");
                    trust.begin_anew();
                }
                Failure::of_another(cause)
            })
        })
        .await
    }

    /// Publishes over a channel that nobody else uses, until the broker has looked at it.
    async fn alone(
        &self,
        line: &Arc<Line>,
        place: InLine,
        post: Post,
        settle: impl FnOnce(Confirm) -> Confirm + Send + 'static,
    ) -> Result<Confirm, Failure> {
        let lane = self.lanes.lane().await?;
        let permits = self.permits(post.payload.len()).await?;
        let channel = lane.channel().await.map_err(Failure::Failed)?;
        let (trust, line) = (Arc::clone(&self.trust), Arc::clone(line));
        ToTheEnd::new(async move {
            let looked_at = look_at(&channel, &post).await.map_err(Failure::of_its_own)?;
            trust.taken(&line, post.payload.len());
            drop(place);
            let confirmation = match looked_at {
                LookedAt::Confirmed(confirmation) => Ok(*confirmation),
                LookedAt::Pending(mut confirm) => match timeout(LINGERING, &mut confirm).await {
                    Ok(confirmation) => confirmation,
                    Err(_) => {
                        drop(lane);
                        confirm.await
                    }
                },
            };
            drop(permits);
            confirmation.map(|confirmation| settle(confirmation.into())).map_err(Failure::of_another)
        })
        .await
    }

    async fn permits(&self, size: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let units = (size / UNIT).clamp(1, self.room_size);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.room).acquire_many_owned(units).await;
        permits.map_err(|_| Failure::Failed(error(ErrorKind::ShutDown, "send")))
    }
}

/// What is known of a message that the broker did not refuse.
enum LookedAt {
    Confirmed(Box<Confirmation>),
    Pending(PublisherConfirm),
}

/// Sends a message, and waits until the broker has looked at it.
async fn look_at(channel: &ConfirmChannel, post: &Post) -> lapin::Result<LookedAt> {
    let mut confirm = channel.send(post, || {}).await?;
    tokio::select! {
        biased;
        confirmed = &mut confirm => confirmed.map(|it| LookedAt::Confirmed(Box::new(it))),
        looked_at = channel.is_looked_at() => looked_at.map(|()| LookedAt::Pending(confirm)),
    }
}

impl Failure {
    /// Of a message that was alone on its channel.
    fn of_its_own(cause: lapin::Error) -> Self {
        match soft_error(&cause) {
            Some(_) => Self::Refused(cause),
            None => Self::of_another(cause),
        }
    }

    /// Of a message that others may be the reason for.
    fn of_another(cause: lapin::Error) -> Self {
        match cause.kind() {
            lapin::ErrorKind::InvalidChannelState(..) => Self::ChannelClosed,
            _ if soft_error(&cause).is_some() => Self::ChannelClosed,
            _ => Self::Failed(from_lapin(cause, "send")),
        }
    }
}

impl Lanes {
    async fn lane(self: &Arc<Self>) -> Result<Lane, Failure> {
        let free = Arc::clone(&self.free).acquire_owned().await;
        let _free = free.map_err(|_| Failure::Failed(error(ErrorKind::ShutDown, "send")))?;
        let publisher = self.publishers.lock().pop();
        Ok(Lane { publisher, lanes: Arc::clone(self), _free })
    }
}

impl Lane {
    async fn channel(&self) -> Result<Arc<ConfirmChannel>> {
        match &self.publisher {
            Some(publisher) => publisher.channel().await,
            None => Err(error(ErrorKind::Unexpected, "send")),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Before its place is free.
        self.lanes.publishers.lock().extend(self.publisher.take());
    }
}
