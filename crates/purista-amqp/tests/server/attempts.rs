//! Attempts are counted across instances.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType};
use purista_conformance::{Latch, on_event};
use purista_core::{
    BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription,
    SubscriptionHandler,
};

use crate::support::{PATIENCE, Place, durable, eventually, started, within};

type Attempts = Arc<Mutex<Vec<u32>>>;

/// How the queue of the subscriber is kept.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Quorum,
    Classic,
    TypeScript,
}

impl Kept {
    fn builder(self, place: &Place) -> AmqpBridgeBuilder {
        match self {
            Self::Quorum => place.builder(),
            Self::Classic => place.builder().queue_type(QueueType::Classic),
            Self::TypeScript => place.typescript(),
        }
    }
}

/// Fails at every attempt, from the second one on when the latch is open.
fn fails(attempts: &Attempts, latch: &Arc<Latch>) -> Arc<dyn SubscriptionHandler> {
    let (attempts, latch) = (Arc::clone(attempts), Arc::clone(latch));
    on_event(move |context| {
        attempts.lock().push(context.attempt());
        let latch = Arc::clone(&latch);
        async move {
            if context.attempt() > 1 {
                latch.pass().await;
            }
            Err(HandlerError::unhandled("fails"))
        }
    })
}

async fn subscribe(bridge: &AmqpBridge, handler: Arc<dyn SubscriptionHandler>) {
    let retry = RetryPolicy::default().with_max_attempts(4).with_initial_delay(Duration::from_millis(300));
    let subscription = Subscription::new(("Reader", "1", "fails"), Filter::event("happened"));
    let subscription = subscription.with_options(durable().with_retry(retry));
    bridge.register_subscription(subscription, handler).await.unwrap();
}

/// Emits an event whose second attempt fails when the shutdown has begun, so that there is no third one here.
async fn is_given_back_after_two_attempts(bridge: &Arc<AmqpBridge>, latch: &Latch) {
    bridge.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    latch.reached(1).await.unwrap();
    let (mut events, leaving) = (bridge.events(), Arc::clone(bridge));
    let shutdown = tokio::spawn(async move { leaving.shutdown(PATIENCE).await });
    within("the shutdown begins", async { while events.next().await.unwrap() != BridgeEvent::Draining {} })
        .await;
    latch.open();
    let report = shutdown.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

async fn attempts_are_kept(kept: Kept) {
    let place = Place::shared().await;
    let (attempts, latch) = (Attempts::default(), Latch::new());
    let first = Arc::new(started(kept.builder(&place)).await);
    subscribe(&first, fails(&attempts, &latch)).await;
    is_given_back_after_two_attempts(&first, &latch).await;
    assert_eq!((attempts.lock().len(), first.stats().released), (2, 1), "{kept:?}");

    let (second, held) = (started(kept.builder(&place)).await, Latch::new());
    subscribe(&second, fails(&attempts, &held)).await;
    held.reached(1).await.unwrap();
    assert_eq!(second.shutdown(Duration::ZERO).await.cancelled_handlers, 1, "{kept:?}");

    let third = started(kept.builder(&place)).await;
    subscribe(&third, fails(&attempts, &latch)).await;
    eventually("a dead letter", async || third.stats().dead_lettered == 1).await;
    // An attempt that was cut off is none.
    assert_eq!(*attempts.lock(), [1, 2, 3, 3, 4], "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_back_keeps_its_attempts() {
    attempts_are_kept(Kept::Quorum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_back_to_a_classic_queue_keeps_its_attempts() {
    attempts_are_kept(Kept::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_back_to_a_queue_of_the_original_keeps_its_attempts() {
    attempts_are_kept(Kept::TypeScript).await;
}

/// The first attempt is cut off again and again, at the end of each grace period.
#[tokio::test(flavor = "multi_thread")]
async fn shutdowns_count_as_no_attempt() {
    let place = Place::shared().await;
    let attempts = Attempts::default();
    let emitter = place.bridge().await;
    for round in 0..4 {
        let (bridge, latch) = (place.bridge().await, Latch::new());
        let (log, held) = (Arc::clone(&attempts), Arc::clone(&latch));
        let handler = on_event(move |context| {
            log.lock().push(context.attempt());
            let held = Arc::clone(&held);
            async move {
                held.pass().await;
                Ok(())
            }
        });
        subscribe(&bridge, handler).await;
        if round == 0 {
            emitter.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
        }
        latch.reached(1).await.unwrap();
        let report = bridge.shutdown(Duration::from_millis(50)).await;
        assert_eq!((report.cancelled_handlers, bridge.stats().released), (1, 1));
    }
    let queue = "purista.subscription.Reader-1-fails";
    eventually("it waits", async || place.queue(queue).await.unwrap().messages_ready == 1).await;
    assert_eq!(*attempts.lock(), [1; 4]);
}
