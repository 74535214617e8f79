//! What happens to a bridge, for those who watch it.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use crate::message::ServiceAddress;

/// Something that happened to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeEvent {
    /// The bridge is connected; after a loss, all registrations are consuming again.
    Connected,
    /// The connection was lost, with the reason.
    Disconnected(String),
    /// The broker forgot the session; what waited in it is gone.
    SessionLost,
    /// A registration stopped consuming while the connection lives.
    ConsumerDown(ServiceAddress),
    /// The registration consumes again.
    ConsumerUp(ServiceAddress),
    /// The bridge stopped taking work.
    Draining,
    /// The bridge shut down.
    ShutDown,
}

/// The events of a bridge from the moment it was asked for them.
///
/// Reads them one by one with [`next`](Self::next), or as a [`Stream`]. A reader that is more than 64 events late misses
/// the oldest and goes on with what is left; [`missed`](Self::missed) tells how many. [`Health`](crate::Health) returns how
/// the bridge is now, whatever was missed.
///
/// ```
/// use purista_core::{BridgeEvent, EventBridge as _};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bridge = purista_default::DefaultEventBridge::builder().build()?;
/// let mut events = bridge.events();
/// bridge.start().await?;
/// assert_eq!(events.next().await, Some(BridgeEvent::Connected));
///
/// bridge.shutdown(Duration::from_secs(10)).await;
/// while let Some(event) = events.next().await {
///     if event == BridgeEvent::ShutDown {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BridgeEvents {
    next: ReusableBoxFuture<'static, Received>,
    missed: u64,
}

type Received = (Result<BridgeEvent, RecvError>, Receiver<BridgeEvent>);

async fn receive(mut events: Receiver<BridgeEvent>) -> Received {
    (events.recv().await, events)
}

impl BridgeEvents {
    pub(crate) fn new(events: Receiver<BridgeEvent>) -> Self {
        Self { next: ReusableBoxFuture::new(receive(events)), missed: 0 }
    }

    /// Returns the next event, `None` after the bridge is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<BridgeEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns how many events this reader has missed so far because it was too late.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }
}

/// Ends after the bridge is gone.
impl Stream for BridgeEvents {
    type Item = BridgeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BridgeEvent>> {
        loop {
            let (event, events) = ready!(self.next.poll(cx));
            self.next.set(receive(events));
            match event {
                Ok(event) => return Poll::Ready(Some(event)),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt};
    use tokio::sync::broadcast::Sender;

    use super::*;

    fn lost(number: u32) -> BridgeEvent {
        BridgeEvent::Disconnected(number.to_string())
    }

    #[tokio::test]
    async fn a_late_reader_misses_the_oldest_and_is_told() {
        let sender = Sender::new(4);
        let mut events = BridgeEvents::new(sender.subscribe());
        // A wait that was given up takes nothing along.
        assert_eq!(events.next().now_or_never(), None);
        for number in 0..6 {
            sender.send(lost(number)).unwrap();
        }
        drop(sender);
        assert_eq!(StreamExt::next(&mut events).await, Some(lost(2)));
        assert_eq!(events.missed(), 2);
        assert_eq!(events.next().await, Some(lost(3)));
        let rest: Vec<_> = events.by_ref().collect().await;
        assert_eq!(rest, [lost(4), lost(5)]);
        assert_eq!((events.next().await, events.missed()), (None, 2));
    }

    #[tokio::test]
    async fn a_stream_wakes_its_reader() {
        let sender = Sender::new(4);
        let events = BridgeEvents::new(sender.subscribe());
        let reader = tokio::spawn(events.collect::<Vec<_>>());
        tokio::task::yield_now().await;
        sender.send(BridgeEvent::Connected).unwrap();
        tokio::task::yield_now().await;
        sender.send(BridgeEvent::ShutDown).unwrap();
        drop(sender);
        assert_eq!(reader.await.unwrap(), [BridgeEvent::Connected, BridgeEvent::ShutDown]);
    }
}
