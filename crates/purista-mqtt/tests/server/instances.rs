//! An instance that is gone, and one that has died.

use std::sync::Arc;

use purista_conformance::{Collector, Latch, on_event};
use purista_core::{
    EventBridge as _, EventBridgeExt as _, Filter, Sharing, Subscription, SubscriptionOptions,
};
use tokio::runtime::{self, Handle};

use crate::support::{PATIENCE, Place, durable, echo, eventually, serve, started, watch};

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_dropped_is_gone() {
    let place = Place::stock().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let bridge = place.bridge().await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    watch(&bridge, "all", Filter::event("happened"), SubscriptionOptions::default()).await.unwrap();
    let _: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(place.server.clients().unwrap().len(), 2);
    drop(bridge);
    eventually("its tasks have ended", || tasks() <= before).await;
    eventually("its connections are closed", || place.server.clients().unwrap().is_empty()).await;
    assert_eq!(place.server.subscriptions().unwrap(), []);
}

/// What it had in hand waits for it, whoever else is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_instance_had_in_hand_comes_when_it_is_back() {
    let place = Place::tuned().await;
    let process = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (latch, builder) = (Latch::new(), place.persistent("node"));
    let gate = Arc::clone(&latch);
    let handler = on_event(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.pass().await;
            Ok(())
        }
    });
    let dead = process.spawn(async move {
        let bridge = started(builder).await;
        let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
        bridge.register_subscription(subscription.with_options(durable()), handler).await.unwrap();
        bridge
    });
    let dead = dead.await.unwrap();
    let emitter = place.bridge().await;
    for number in 0..5 {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    latch.reached(1).await.unwrap();
    process.shutdown_background();
    eventually("it is gone", || !is_connected(&place)).await;
    drop(dead);
    for number in 5..10 {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    let back = started(place.persistent("node")).await;
    let seen = watch(&back, "reader", Filter::event("happened"), durable()).await.unwrap();
    seen.at_least(10).await.unwrap();
    emitter.event("happened").timeout(PATIENCE).emit(&10).await.unwrap();
    seen.sentinel("10").await.unwrap();
    assert_eq!(seen.payloads(), Vec::from_iter((0..11).map(|number| number.to_string())));
}

fn is_connected(place: &Place) -> bool {
    place.server.clients().unwrap().iter().any(|client| client == "purista-Watcher-1-reader-node")
}

/// It could not end its subscriptions itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_comes_back_another_way_leaves_nothing_of_what_it_was() {
    let place = Place::tuned().await;
    let filters = || Vec::from_iter(place.subscriptions_of("reader").into_iter().map(|(_, filter)| filter));
    let dies = async |filter: Filter, options: SubscriptionOptions| {
        let bridge = started(place.persistent("node")).await;
        let subscription = Subscription::new(("Watcher", "1", "reader"), filter).with_options(options);
        bridge.register_subscription(subscription, Collector::new().handler()).await.unwrap();
        let listens_to = filters();
        drop(bridge);
        eventually("it is gone", || !is_connected(&place)).await;
        listens_to
    };
    let shared = |event: &str| {
        [
            format!("$share/Watcher-1-reader/purista/+/+/+/+/+/+/+/{event}/+/+/+/+"),
            "$share/Watcher-1-reader/purista/hand_over/Watcher-1-reader".to_owned(),
        ]
    };
    assert_eq!(dies(Filter::event("old"), durable()).await, shared("old"));
    assert_eq!(dies(Filter::event("new"), durable()).await, shared("new"));
    let broadcast = durable().with_sharing(Sharing::Broadcast);
    let listens_to = dies(Filter::event("new"), broadcast).await;
    assert_eq!(listens_to, ["purista/+/+/+/+/+/+/+/new/+/+/+/+"]);
    assert_eq!(dies(Filter::event("new"), durable()).await, shared("new"));
}
