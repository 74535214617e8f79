//! Instances of one subscriber that are configured differently, as in a rolling deployment.

use std::{sync::Arc, time::Duration};

use purista_conformance::Collector;
use purista_core::{
    ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Registration, Result, Sharing, Subscription,
    SubscriptionOptions,
};
use purista_mqtt::MqttBridge;

use crate::support::{PATIENCE, Place, durable, eventually, started};

async fn subscribe(
    bridge: &MqttBridge,
    filter: Filter,
    options: SubscriptionOptions,
    seen: &Arc<Collector>,
) -> Result<Registration> {
    let subscription = Subscription::new(("Watcher", "1", "reader"), filter).with_options(options);
    bridge.register_subscription(subscription, seen.handler()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_filter_is_refused_while_somebody_has_the_old_one() {
    for options in [SubscriptionOptions::default(), durable()] {
        let place = Place::tuned().await;
        let (old, new) = (started(place.persistent("old")).await, started(place.persistent("new")).await);
        let seen = Collector::new();
        subscribe(&old, Filter::event("old"), options.clone(), &seen).await.unwrap();
        let before = place.subscriptions_of("reader");
        let error = subscribe(&new, Filter::event("new"), options.clone(), &seen).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{error:?}");
        assert_eq!(place.subscriptions_of("reader"), before, "it left something");
        new.event("new").timeout(PATIENCE).emit(&1).await.unwrap();
        new.event("old").timeout(PATIENCE).emit("sentinel").await.unwrap();
        seen.sentinel("\"sentinel\"").await.unwrap();
        assert_eq!(seen.count(), 1);
        // The same filter is welcome, and another one once the old one is gone.
        let same = subscribe(&new, Filter::event("old"), options.clone(), &seen).await.unwrap();
        same.unregister().await.unwrap();
        old.shutdown(PATIENCE).await;
        subscribe(&new, Filter::event("new"), options, &seen).await.unwrap();
        new.event("new").timeout(PATIENCE).emit("another").await.unwrap();
        seen.sentinel("\"another\"").await.unwrap();
    }
}

/// One that dies would lose what the other one is to keep.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_durable_takes_nothing_from_who_is() {
    let place = Place::tuned().await;
    let (one, other) = (started(place.persistent("one")).await, started(place.persistent("other")).await);
    let seen = Collector::new();
    subscribe(&one, Filter::event("happened"), durable(), &seen).await.unwrap();
    let transient = durable().with_durable(false);
    let error = subscribe(&other, Filter::event("happened"), transient.clone(), &seen).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{error:?}");
    // One that gets each message takes none away.
    let broadcast = transient.with_sharing(Sharing::Broadcast);
    subscribe(&other, Filter::event("happened"), broadcast, &seen).await.unwrap();
    one.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    seen.at_least(2).await.unwrap();
}

/// What each instance has for itself at the broker may differ.
#[tokio::test(flavor = "multi_thread")]
async fn windows_expiries_and_retries_of_instances_are_their_own() {
    const EVENTS: usize = 200;
    let place = Place::tuned().await;
    let one = started(place.persistent("one").receive_maximum(1)).await;
    let other = place.persistent("other").persistent_sessions(Duration::from_secs(60)).receive_maximum(100);
    let other = started(other).await;
    let seen = Collector::new();
    for bridge in [&one, &other] {
        subscribe(bridge, Filter::event("happened"), durable(), &seen).await.unwrap();
    }
    for number in 0..EVENTS {
        one.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    seen.at_least(EVENTS).await.unwrap();
    let handled = || one.stats().handled + other.stats().handled;
    eventually("all are handled", || handled() == EVENTS as u64).await;
    assert!(one.stats().handled > 0 && other.stats().handled > 0);
}
