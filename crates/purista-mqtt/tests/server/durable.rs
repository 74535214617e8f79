//! Durable subscriptions: what they need, and a subscriber that is another one in the next deployment.

use std::time::Duration;

use purista_core::{
    Capability, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Sharing, Subscription,
    SubscriptionOptions,
};

use crate::support::{PATIENCE, Place, durable, eventually, in_order, started, watch};

/// Returns what the only client of the subscriber listens to.
fn filters(place: &Place) -> Vec<String> {
    place.subscriptions_of("reader").into_iter().map(|(_, filter)| filter).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_changed_while_the_instance_was_away_replaces_the_old_one() {
    let place = Place::tuned().await;
    let of_event = |name: &str| format!("$share/Watcher-1-reader/purista/+/+/+/+/+/+/+/{name}/+/+/+/+");
    let hand_over = "$share/Watcher-1-reader/purista/hand_over/Watcher-1-reader".to_owned();
    let old = started(place.persistent("node")).await;
    let seen = watch(&old, "reader", Filter::event("old"), durable()).await.unwrap();
    old.event("old").timeout(PATIENCE).emit("before").await.unwrap();
    seen.sentinel("\"before\"").await.unwrap();
    old.shutdown(PATIENCE).await;
    assert!(filters(&place).iter().any(|filter| filter.contains("/old/")), "{:?}", filters(&place));

    let emitter = place.bridge().await;
    emitter.event("old").timeout(PATIENCE).emit("waits, but nobody wants it any more").await.unwrap();
    let new = started(place.persistent("node")).await;
    let seen = watch(&new, "reader", Filter::event("new"), durable()).await.unwrap();
    assert_eq!(filters(&place), [of_event("new"), hand_over]);
    emitter.event("old").timeout(PATIENCE).emit("nobody wants it").await.unwrap();
    emitter.event("new").timeout(PATIENCE).emit("first").await.unwrap();
    seen.sentinel("\"first\"").await.unwrap();
    // What had waited is all that came by the old filter.
    assert_eq!((seen.count(), new.stats().filtered), (1, 1));
    new.shutdown(PATIENCE).await;

    // It is as durable as before.
    emitter.event("new").timeout(PATIENCE).emit("second").await.unwrap();
    let newest = started(place.persistent("node")).await;
    let seen = watch(&newest, "reader", Filter::event("new"), durable()).await.unwrap();
    seen.sentinel("\"second\"").await.unwrap();
    assert_eq!((seen.count(), newest.stats().filtered), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_shares_no_more_leaves_nothing_of_the_share() {
    let place = Place::tuned().await;
    let old = started(place.persistent("node")).await;
    watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    old.shutdown(PATIENCE).await;
    let new = started(place.persistent("node")).await;
    let broadcast = durable().with_sharing(Sharing::Broadcast);
    let seen = watch(&new, "reader", Filter::event("happened"), broadcast.clone()).await.unwrap();
    assert_eq!(filters(&place), ["purista/+/+/+/+/+/+/+/happened/+/+/+/+"]);
    new.event("happened").timeout(PATIENCE).emit("once").await.unwrap();
    new.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(seen.payloads(), ["\"once\"", "\"sentinel\""]);
    new.shutdown(PATIENCE).await;

    // And back again.
    let newest = started(place.persistent("node")).await;
    watch(&newest, "reader", Filter::event("happened"), durable()).await.unwrap();
    assert!(filters(&place).iter().all(|filter| filter.starts_with("$share/")), "{:?}", filters(&place));
}

/// A subscription that is durable no more must not be served by the session that it had, nor leave that behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_durable_no_more_leaves_no_session() {
    let place = Place::tuned().await;
    let old = started(place.persistent("node")).await;
    watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    old.shutdown(PATIENCE).await;
    let emitter = place.bridge().await;
    emitter.event("happened").timeout(PATIENCE).emit("nobody waits for it").await.unwrap();
    let new = started(place.persistent("node")).await;
    let seen =
        watch(&new, "reader", Filter::event("happened"), in_order().with_durable(false)).await.unwrap();
    emitter.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(seen.count(), 1);
    new.shutdown(PATIENCE).await;
    eventually("it leaves nothing", || place.subscriptions_of("reader").is_empty()).await;
    // Nor is there a record of it that would mislead the next one.
    let back = started(place.persistent("node")).await;
    let seen = watch(&back, "reader", Filter::event("other"), durable()).await.unwrap();
    emitter.event("other").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    back.shutdown(PATIENCE).await;
    emitter.event("other").timeout(PATIENCE).emit("waits").await.unwrap();
    let back = started(place.persistent("node")).await;
    let seen = watch(&back, "reader", Filter::event("other"), durable()).await.unwrap();
    seen.sentinel("\"waits\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_for_is_refused() {
    let place = Place::tuned().await;
    let hour = Duration::from_secs(3_600);
    for builder in
        [place.builder(), place.builder().instance_id("node"), place.builder().persistent_sessions(hour)]
    {
        let bridge = builder.build().unwrap();
        let refused = |outcome: purista_core::Result<_>| {
            let kind = outcome.map(|_: std::sync::Arc<_>| ()).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Unsupported(Capability::DurableSubscriptions));
        };
        refused(watch(&bridge, "reader", Filter::any(), durable()).await);
        bridge.start().await.unwrap();
        refused(watch(&bridge, "reader", Filter::any(), durable()).await);
        assert_eq!(place.subscriptions_of("reader"), []);
        // Who does not say gets what there is.
        let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::any());
        let subscription = subscription.with_options(SubscriptionOptions::default());
        let seen = purista_conformance::Collector::new();
        let registration = bridge.register_subscription(subscription, seen.handler()).await.unwrap();
        assert!(!registration.granted().durable);
        bridge.shutdown(PATIENCE).await;
        eventually("it leaves nothing", || place.subscriptions_of("reader").is_empty()).await;
    }
    let bridge = started(place.persistent("node")).await;
    watch(&bridge, "reader", Filter::any(), durable()).await.unwrap();
}
