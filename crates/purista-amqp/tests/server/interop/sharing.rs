//! Instances of ours and of the original share the queue of a subscription, whoever declares it first.

use std::sync::Arc;

use lapin::options::QueueDeclareOptions;
use purista_core::{EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::interop::Service;

use super::wire::AmqpPeer;
use crate::support::{PATIENCE, Place, durable, eventually, started, transient, watch};

const EVENTS: usize = 60;

/// Starts a subscriber of the original.
async fn subscriber(place: &Place, durable: bool) -> Service {
    let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    let (peer, wanted) = (AmqpPeer::start(place).await, [("eventName", "userCreated")]);
    let came = peer.consume_bound("purista.sub.Watcher.1.shared", options, &wanted).await;
    Service::on(Arc::new(peer), came, |_| None)
}

async fn each_event_comes_to_one(theirs_first: bool, is_durable: bool) {
    let place = Place::shared().await;
    let early = if theirs_first { Some(subscriber(&place, is_durable).await) } else { None };
    let bridge = started(place.typescript()).await;
    let options = if is_durable { durable() } else { transient() };
    let (ours, _) = watch(&bridge, "shared", Filter::event("userCreated"), options).await.unwrap();
    let theirs = match early {
        Some(theirs) => theirs,
        None => subscriber(&place, is_durable).await,
    };
    for number in 0..EVENTS {
        bridge.emit("userCreated", &number).await.unwrap();
    }
    eventually("all have come", async || ours.count() + theirs.came().len() >= EVENTS).await;
    let theirs: Vec<_> = theirs.came().iter().map(|frame| frame.body["payload"].to_string()).collect();
    // The original takes all it can get, however slow it is: how much that is says nothing.
    assert!(ours.count() > 0 && !theirs.is_empty(), "{} and {}", ours.count(), theirs.len());
    let mut all: Vec<usize> =
        ours.payloads().iter().chain(&theirs).map(|number| number.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..EVENTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn we_join_a_subscription_of_the_original() {
    each_event_comes_to_one(true, false).await;
    each_event_comes_to_one(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_original_joins_a_subscription_of_ours() {
    each_event_comes_to_one(false, false).await;
    each_event_comes_to_one(false, true).await;
}

/// What the original declared stays when ours leaves.
#[tokio::test(flavor = "multi_thread")]
async fn our_subscriber_leaves_and_the_original_goes_on() {
    let place = Place::shared().await;
    let theirs = subscriber(&place, false).await;
    let bridge = started(place.typescript()).await;
    let (_ours, registration) =
        watch(&bridge, "shared", Filter::event("userCreated"), transient()).await.unwrap();
    registration.unregister().await.unwrap();
    for number in 0..EVENTS {
        bridge.emit("userCreated", &number).await.unwrap();
    }
    eventually("all have come", async || theirs.came().len() >= EVENTS).await;
    assert_eq!(theirs.came().len(), EVENTS);
    bridge.shutdown(PATIENCE).await;
}
