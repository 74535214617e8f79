//! A subscriber whose filter is another one in the next deployment.

use purista_conformance::Collector;
use purista_core::{
    ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Subscription, SubscriptionOptions,
};

use crate::support::{PATIENCE, Place, durable, watch};

fn in_order() -> SubscriptionOptions {
    durable().with_max_concurrency(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_nobody_uses_is_changed() {
    let place = Place::shared(true).await;
    let old = place.bridge().await;
    let seen = watch(&old, "reader", Filter::event("old"), in_order()).await.unwrap();
    old.event("old").timeout(PATIENCE).emit("before").await.unwrap();
    seen.sentinel("\"before\"").await.unwrap();
    old.shutdown(PATIENCE).await;

    let emitter = place.bridge().await;
    emitter.event("old").timeout(PATIENCE).emit("nobody wants it any more").await.unwrap();
    let new = place.bridge().await;
    let seen = watch(&new, "reader", Filter::event("new"), in_order()).await.unwrap();
    emitter.event("old").timeout(PATIENCE).emit("nobody wants it").await.unwrap();
    emitter.event("new").timeout(PATIENCE).emit("first").await.unwrap();
    seen.sentinel("\"first\"").await.unwrap();
    new.shutdown(PATIENCE).await;

    // It is as durable as before.
    emitter.event("old").timeout(PATIENCE).emit("nobody wants it").await.unwrap();
    emitter.event("new").timeout(PATIENCE).emit("second").await.unwrap();
    let newest = place.bridge().await;
    let seen_later = watch(&newest, "reader", Filter::event("new"), in_order()).await.unwrap();
    seen_later.sentinel("\"second\"").await.unwrap();
    assert_eq!(
        (seen.payloads(), seen_later.payloads()),
        (vec!["\"first\"".into()], vec!["\"second\"".into()])
    );
    assert_eq!(newest.stats().filtered + new.stats().filtered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_another_instance_uses_is_not_changed() {
    let place = Place::shared(true).await;
    let old = place.bridge().await;
    let seen = watch(&old, "reader", Filter::event("old"), in_order()).await.unwrap();

    let registered_late = place.bridge().await;
    let refused = watch(&registered_late, "reader", Filter::event("new"), in_order()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    assert!(refused.to_string().contains("another filter"), "{refused}");
    let registered_before = place.builder().build().unwrap();
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("new"));
    let subscription = subscription.with_options(in_order());
    registered_before.register_subscription(subscription, Collector::new().handler()).await.unwrap();
    let refused = registered_before.start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");

    old.event("new").timeout(PATIENCE).emit("not for the old one").await.unwrap();
    old.event("old").timeout(PATIENCE).emit("goes on").await.unwrap();
    seen.sentinel("\"goes on\"").await.unwrap();
    assert_eq!(seen.count(), 1);

    // When it is gone, the new filter is welcome.
    old.shutdown(PATIENCE).await;
    let seen = watch(&registered_late, "reader", Filter::event("new"), in_order()).await.unwrap();
    registered_late.event("new").timeout(PATIENCE).emit("at last").await.unwrap();
    seen.sentinel("\"at last\"").await.unwrap();
}

/// Values that look alike on the wire are not the same filter.
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_compared_to_the_letter() {
    let place = Place::shared(true).await;
    let old = place.bridge().await;
    watch(&old, "reader", Filter::event("some-thing"), in_order()).await.unwrap();
    let new = place.bridge().await;
    let refused = watch(&new, "reader", Filter::event("some_thing"), in_order()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    let shares = watch(&new, "reader", Filter::event("some-thing"), in_order()).await;
    assert!(shares.is_ok(), "{shares:?}");
}
