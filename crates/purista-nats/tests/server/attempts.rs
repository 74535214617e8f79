//! Attempts are counted across instances.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_conformance::{Latch, on_event};
use purista_core::{
    BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription,
    SubscriptionHandler,
};
use purista_nats::NatsBridge;

use crate::support::{PATIENCE, Place, durable, eventually, within};

type Attempts = Arc<Mutex<Vec<u32>>>;

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

async fn subscribe(bridge: &NatsBridge, handler: Arc<dyn SubscriptionHandler>) {
    let retry = RetryPolicy::default().with_max_attempts(4).with_initial_delay(Duration::from_millis(500));
    let subscription = Subscription::new(("Reader", "1", "fails"), Filter::event("happened"));
    let subscription = subscription.with_options(durable().with_retry(retry));
    bridge.register_subscription(subscription, handler).await.unwrap();
}

/// Emits an event whose second attempt fails when the shutdown has begun, so that there is no third one here.
async fn is_given_back_after_two_attempts(bridge: &Arc<NatsBridge>, latch: &Latch) {
    bridge.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    latch.reached(1).await.unwrap();
    let (mut events, leaving) = (bridge.events(), Arc::clone(bridge));
    let shutdown = tokio::spawn(async move { leaving.shutdown(PATIENCE).await });
    within("the shutdown begins", async { while events.next().await.unwrap() != BridgeEvent::Draining {} })
        .await;
    latch.open();
    assert!(shutdown.await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_back_keeps_its_attempts() {
    let place = Place::shared(true).await;
    let (attempts, latch) = (Attempts::default(), Latch::new());
    let first = Arc::new(place.bridge().await);
    subscribe(&first, fails(&attempts, &latch)).await;
    is_given_back_after_two_attempts(&first, &latch).await;
    assert_eq!((attempts.lock().len(), first.stats().released), (2, 1));

    let second = place.bridge().await;
    subscribe(&second, fails(&attempts, &latch)).await;
    eventually("a dead letter", || second.stats().dead_lettered == 1).await;
    assert_eq!(*attempts.lock(), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_given_back_twice_keeps_its_attempts() {
    let place = Place::shared(true).await;
    let (attempts, latch) = (Attempts::default(), Latch::new());
    let first = Arc::new(place.bridge().await);
    subscribe(&first, fails(&attempts, &latch)).await;
    is_given_back_after_two_attempts(&first, &latch).await;

    let (second, held) = (place.bridge().await, Latch::new());
    subscribe(&second, fails(&attempts, &held)).await;
    held.reached(1).await.unwrap();
    assert_eq!(second.shutdown(Duration::ZERO).await.cancelled_handlers, 1);

    let third = place.bridge().await;
    subscribe(&third, fails(&attempts, &latch)).await;
    eventually("a dead letter", || third.stats().dead_lettered == 1).await;
    // An attempt that was cut off is none.
    assert_eq!(*attempts.lock(), [1, 2, 3, 3, 4]);
}
