//! Messages that wait for their next attempt, as many as the broker sends without acknowledgement and more.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use purista_conformance::{Collector, on_event};
use purista_core::{
    EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription,
    SubscriptionHandler, SubscriptionOptions,
};
use purista_mqtt::MqttBridge;
use tokio::runtime;

use crate::support::{PATIENCE, Place, eventually, started};

/// Far more than the 20 of a stock Mosquitto.
const POISON: usize = 200;

/// Fails at what is a number, as long as it is told to.
fn fails(seen: &Arc<Collector>, is_broken: &Arc<AtomicBool>) -> Arc<dyn SubscriptionHandler> {
    let (seen, is_broken) = (Arc::clone(seen), Arc::clone(is_broken));
    on_event(move |context| {
        let is_poison = context.message().payload().unwrap().deserialize::<usize>().is_ok();
        let fails = is_poison && is_broken.load(Ordering::Acquire);
        if !fails {
            seen.record(&context);
        }
        async move { if fails { Err(HandlerError::unhandled("fails")) } else { Ok(()) } }
    })
}

/// Returns the numbers that were handled.
fn numbers(seen: &Collector) -> BTreeSet<usize> {
    seen.payloads().iter().filter_map(|number| number.parse().ok()).collect()
}

async fn subscribe(
    bridge: &MqttBridge,
    is_durable: bool,
    seen: &Arc<Collector>,
    is_broken: &Arc<AtomicBool>,
) {
    let long = Duration::from_secs(600);
    let retry = RetryPolicy::default().with_max_attempts(5).with_initial_delay(long).with_max_delay(long);
    let mut options = SubscriptionOptions::default().with_retry(retry).with_max_concurrency(2);
    if is_durable {
        options = options.with_durable(true);
    }
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), fails(seen, is_broken)).await.unwrap();
}

async fn others_are_delivered(bridge: &MqttBridge, is_durable: bool) -> Arc<AtomicBool> {
    let (seen, is_broken) = (Collector::new(), Arc::new(AtomicBool::new(true)));
    subscribe(bridge, is_durable, &seen, &is_broken).await;
    for number in 0..POISON {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    eventually("all have failed once", || bridge.stats().failed_attempts >= POISON as u64).await;
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!((seen.count(), bridge.stats().failed_attempts), (1, POISON as u64));
    is_broken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_broker_delivers_others_while_many_wait() {
    let place = Place::stock().await;
    others_are_delivered(&place.bridge().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_window_is_not_filled_by_those_that_wait() {
    let place = Place::tuned().await;
    let bridge = started(place.builder().receive_maximum(1)).await;
    others_are_delivered(&bridge, false).await;
}

/// What waits is not lost with its process, and nothing of it is left when all is handled.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outside_of_the_window_outlives_its_process() {
    for receive_maximum in [1, 16] {
        let place = Place::tuned().await;
        // The process of an instance that dies is a runtime here.
        let process = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let builder = place.persistent("node").receive_maximum(receive_maximum);
        let died = process.spawn(async move {
            let bridge = started(builder).await;
            others_are_delivered(&bridge, true).await;
            bridge
        });
        let bridge = died.await.unwrap();
        process.shutdown_background();
        eventually("it is gone", || place.server.clients().unwrap().is_empty()).await;

        drop(bridge);
        let (seen, is_broken) = (Collector::new(), Arc::default());
        let bridge = started(place.persistent("node").receive_maximum(receive_maximum)).await;
        subscribe(&bridge, true, &seen, &is_broken).await;
        // A copy may come twice.
        eventually("all is handled", || numbers(&seen).len() == POISON).await;
        eventually("all is settled", || bridge.stats().in_hand == 0).await;
        let mut reader = place.client().await;
        reader.subscribe("purista/parked/#").await;
        assert_eq!(reader.all().await, []);
    }
}

/// The instance that comes next, under whatever id, gets what the last one had in hand: outside of a small window, or within
/// a large one, of which the broker sends all at once to whoever adopts the session.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_adopted_whatever_the_windows() {
    for (first, second) in [(4, 4), (1_024, 1)] {
        let place = Place::tuned().await;
        let bridge = started(place.persistent("first").receive_maximum(first)).await;
        others_are_delivered(&bridge, true).await;
        bridge.shutdown(Duration::from_secs(5)).await;

        let (seen, is_broken) = (Collector::new(), Arc::default());
        let bridge = started(place.persistent("second").receive_maximum(second)).await;
        subscribe(&bridge, true, &seen, &is_broken).await;
        eventually("all is handled", || numbers(&seen).len() == POISON).await;
    }
}
