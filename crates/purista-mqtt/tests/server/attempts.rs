//! Attempts are counted across instances.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use purista_conformance::{Latch, on_event};
use purista_core::{
    BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription,
    SubscriptionHandler, SubscriptionOptions,
};
use purista_mqtt::MqttBridge;

use crate::{
    client::topic,
    support::{PATIENCE, Place, eventually, within},
};

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

async fn subscribe(bridge: &MqttBridge, handler: Arc<dyn SubscriptionHandler>) {
    let retry = RetryPolicy::default().with_max_attempts(4).with_initial_delay(Duration::from_millis(500));
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    let options = SubscriptionOptions::default().with_retry(retry);
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
}

/// Leaves while the second attempt is under way, which fails when the shutdown has begun, so that there is no third one.
async fn leave_after_two_attempts(bridge: &Arc<MqttBridge>, latch: &Latch) {
    let (mut events, leaving) = (bridge.events(), Arc::clone(bridge));
    let shutdown = tokio::spawn(async move { leaving.shutdown(PATIENCE).await });
    within("the shutdown begins", async { while events.next().await.unwrap() != BridgeEvent::Draining {} })
        .await;
    latch.open();
    let report = shutdown.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(bridge.stats().released, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_handed_over_keeps_its_attempts() {
    let place = Place::stock().await;
    let (attempts, latch) = (Attempts::default(), Latch::new());
    let (first, second) = (Arc::new(place.bridge().await), place.bridge().await);
    subscribe(&first, fails(&attempts, &latch)).await;
    first.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    latch.reached(1).await.unwrap();
    subscribe(&second, fails(&attempts, &latch)).await;
    leave_after_two_attempts(&first, &latch).await;
    eventually("a dead letter", || second.stats().dead_lettered == 1).await;
    assert_eq!(*attempts.lock(), [1, 2, 3, 4]);
}

/// What travels beside a message when it is handed over: what came with it, and how often it has failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_handed_over_says_how_often_it_has_failed() {
    let place = Place::stock().await;
    let (attempts, latch) = (Attempts::default(), Latch::new());
    let (first, second) = (Arc::new(place.bridge().await), place.bridge().await);
    subscribe(&first, fails(&attempts, &latch)).await;
    let mut original = place.client().await;
    original.subscribe("purista/custom_message/#").await;
    first.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    let original = original.next().await;
    latch.reached(1).await.unwrap();

    let mut watcher = place.client().await;
    watcher.subscribe("purista/hand_over/Watcher-1-fails").await;
    subscribe(&second, fails(&attempts, &latch)).await;
    leave_after_two_attempts(&first, &latch).await;
    let came = watcher.all().await;
    let [handed_over] = &came[..] else { panic!("{came:?}") };
    assert_eq!(topic(handed_over), "purista/hand_over/Watcher-1-fails");
    assert_eq!(handed_over.payload, original.payload);
    let properties = handed_over.properties.clone().unwrap();
    let attempts = ("purista-failed-attempts".to_owned(), "2".to_owned());
    assert_eq!(properties.user_properties, [attempts]);
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert!(properties.message_expiry_interval > Some(2_500_000), "{properties:?}");
}
