//! A subscriber that is another one in the next deployment: with another filter, or other options of its queue.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType};
use purista_conformance::Collector;
use purista_core::{ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, MessageType, Subscription};
use serde_json::Value;

use crate::support::{PATIENCE, Place, durable, eventually, started, watch};

const QUEUE: &str = "purista.subscription.Watcher-1-reader";

fn builder(place: &Place, is_typescript: bool) -> AmqpBridgeBuilder {
    if is_typescript { place.typescript() } else { place.builder() }
}

/// What leads to the queue, and what leads to that.
async fn ways(place: &Place, queue: &str) -> Vec<String> {
    let bindings = place.bindings().await;
    let to = bindings.iter().filter(|binding| binding.destination == queue);
    let mut ways: Vec<_> = to
        .map(|binding| {
            let name = binding.arguments.get("eventName").map(ToString::to_string);
            format!("{} {}{}", binding.source, binding.routing_key, name.unwrap_or_default())
        })
        .collect();
    ways.sort();
    ways
}

async fn a_filter_nobody_uses_is_changed(is_typescript: bool) {
    let place = Place::shared().await;
    let queue = if is_typescript { "purista.sub.Watcher.1.reader" } else { QUEUE };
    let old = started(builder(&place, is_typescript)).await;
    let (seen, _) = watch(&old, "reader", Filter::event("old"), durable()).await.unwrap();
    old.event("old").timeout(PATIENCE).emit("before").await.unwrap();
    seen.sentinel("\"before\"").await.unwrap();
    old.shutdown(PATIENCE).await;
    let before = ways(&place, queue).await;

    let emitter = started(builder(&place, is_typescript)).await;
    emitter.event("old").timeout(PATIENCE).emit("waits, but nobody wants it any more").await.unwrap();
    let new = started(builder(&place, is_typescript)).await;
    let (seen, _) = watch(&new, "reader", Filter::event("new"), durable()).await.unwrap();
    let expected: Vec<_> = before.iter().map(|way| way.replace("old", "new")).collect();
    assert_eq!(ways(&place, queue).await, expected);
    emitter.event("old").timeout(PATIENCE).emit("nobody wants it").await.unwrap();
    emitter.event("new").timeout(PATIENCE).emit("first").await.unwrap();
    seen.sentinel("\"first\"").await.unwrap();
    // What had waited is all that came by the old way.
    assert_eq!((seen.count(), new.stats().filtered), (1, 1));
    new.shutdown(PATIENCE).await;

    // It is as durable as before.
    emitter.event("new").timeout(PATIENCE).emit("second").await.unwrap();
    let newest = started(builder(&place, is_typescript)).await;
    let (seen, _) = watch(&newest, "reader", Filter::event("new"), durable()).await.unwrap();
    seen.sentinel("\"second\"").await.unwrap();
    assert_eq!((seen.count(), newest.stats().filtered), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_nobody_uses_is_changed() {
    a_filter_nobody_uses_is_changed(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_nobody_uses_is_changed_beside_the_original() {
    a_filter_nobody_uses_is_changed(true).await;
}

/// Emits numbers until it is told to stop, and returns how many.
async fn emit_numbers(bridge: AmqpBridge, stop: Arc<AtomicBool>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        number += 1;
    }
    number
}

/// Both filters want all there is: what waits and what comes while they change.
async fn a_change_loses_nothing(is_typescript: bool) {
    let place = Place::shared().await;
    let filters = [
        Filter::event("happened"),
        Filter::message_type(MessageType::CustomMessage),
        Filter::any(),
        Filter::event("happened").with_message_type(MessageType::CustomMessage),
    ];
    let first = started(builder(&place, is_typescript)).await;
    watch(&first, "reader", filters[0].clone(), durable()).await.unwrap();
    first.shutdown(PATIENCE).await;

    let emitter = started(builder(&place, is_typescript)).await;
    for number in 1..=50 {
        emitter.event("happened").timeout(PATIENCE).emit(&(-number)).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let emitting = tokio::spawn(emit_numbers(emitter, Arc::clone(&stop)));
    let mut came = Vec::new();
    for filter in filters.iter().cycle().skip(1).take(7) {
        let bridge = started(builder(&place, is_typescript)).await;
        let (seen, _) = watch(&bridge, "reader", filter.clone(), durable()).await.unwrap();
        seen.at_least(20).await.unwrap();
        bridge.shutdown(PATIENCE).await;
        assert_eq!(bridge.stats().filtered, 0);
        came.extend(seen.payloads());
    }
    stop.store(true, Ordering::Relaxed);
    let emitted = i32::try_from(emitting.await.unwrap()).unwrap();
    let last = started(builder(&place, is_typescript)).await;
    let (seen, _) = watch(&last, "reader", filters[0].clone(), durable()).await.unwrap();
    let wanted: Vec<_> = (-50..0).chain(0..emitted).collect();
    let all = || {
        let all = came.iter().cloned().chain(seen.payloads());
        let mut all: Vec<i32> = all.map(|number| number.parse().unwrap()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    eventually("all are there", async || all().len() >= wanted.len()).await;
    assert_eq!(all(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_filter_is_changed() {
    a_change_loses_nothing(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_filter_is_changed_beside_the_original() {
    a_change_loses_nothing(true).await;
}

async fn a_filter_in_use_is_not_changed(is_typescript: bool) {
    let place = Place::shared().await;
    let old = started(builder(&place, is_typescript)).await;
    let (seen, _) = watch(&old, "reader", Filter::event("old"), durable()).await.unwrap();

    let late = started(builder(&place, is_typescript)).await;
    let refused = watch(&late, "reader", Filter::event("new"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    assert!(refused.to_string().contains("another filter"), "{refused}");
    let early = builder(&place, is_typescript).build().unwrap();
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("new"));
    let subscription = subscription.with_options(durable());
    early.register_subscription(subscription, Collector::new().handler()).await.unwrap();
    let refused = early.start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");

    old.event("new").timeout(PATIENCE).emit("not for the old one").await.unwrap();
    old.event("old").timeout(PATIENCE).emit("goes on").await.unwrap();
    seen.sentinel("\"goes on\"").await.unwrap();
    assert_eq!((seen.count(), old.stats().filtered), (1, 0));

    // When it is gone, the new filter is welcome.
    old.shutdown(PATIENCE).await;
    let (seen, _) = watch(&late, "reader", Filter::event("new"), durable()).await.unwrap();
    late.event("new").timeout(PATIENCE).emit("at last").await.unwrap();
    seen.sentinel("\"at last\"").await.unwrap();
    assert_eq!(seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_another_instance_uses_is_not_changed() {
    a_filter_in_use_is_not_changed(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_another_instance_uses_is_not_changed_beside_the_original() {
    a_filter_in_use_is_not_changed(true).await;
}

/// Values that look alike on the wire are not the same filter.
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_compared_to_the_letter() {
    let place = Place::shared().await;
    let (old, new) = (place.bridge().await, place.bridge().await);
    watch(&old, "reader", Filter::event("some-thing"), durable()).await.unwrap();
    let refused = watch(&new, "reader", Filter::event("some_thing"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    let shares = watch(&new, "reader", Filter::event("some-thing"), durable()).await;
    assert!(shares.is_ok(), "{shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_options_is_replaced_if_it_is_empty_and_unused() {
    let place = Place::shared().await;
    let limit =
        async || place.queue(QUEUE).await.unwrap().arguments.get("x-max-length").and_then(Value::as_u64);
    let old = place.bridge().await;
    let (seen, _) = watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    assert_eq!(limit().await, None);

    // Somebody consumes.
    let new = started(place.builder().max_queue_length(10)).await;
    let refused = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    assert!(refused.to_string().contains("1 consumers and 0 messages"), "{refused}");
    old.event("happened").timeout(PATIENCE).emit("still works").await.unwrap();
    seen.sentinel("\"still works\"").await.unwrap();

    // Somebody has to consume.
    old.shutdown(PATIENCE).await;
    new.event("happened").timeout(PATIENCE).emit("waits").await.unwrap();
    let refused = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    assert!(refused.to_string().contains("0 consumers and 1 messages"), "{refused}");
    let old = place.bridge().await;
    let (seen, _) = watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    seen.sentinel("\"waits\"").await.unwrap();
    old.shutdown(PATIENCE).await;

    let (seen, _) = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap();
    assert_eq!(limit().await, Some(10));
    new.event("happened").timeout(PATIENCE).emit("new").await.unwrap();
    seen.sentinel("\"new\"").await.unwrap();
    assert_eq!(seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_type_is_replaced_if_it_is_empty_and_unused() {
    let place = Place::shared().await;
    let classic = || place.builder().queue_type(QueueType::Classic);
    let kind = async || place.queue(QUEUE).await.unwrap().kind;
    let old = place.bridge().await;
    let (seen, _) = watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    assert_eq!(kind().await, "quorum");

    // Somebody consumes.
    let new = started(classic()).await;
    let refused = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    old.event("happened").timeout(PATIENCE).emit("still works").await.unwrap();
    seen.sentinel("\"still works\"").await.unwrap();

    // Somebody has to consume.
    old.shutdown(PATIENCE).await;
    new.event("happened").timeout(PATIENCE).emit("waits").await.unwrap();
    let refused = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "{refused:?}");
    let old = place.bridge().await;
    let (seen, _) = watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    seen.sentinel("\"waits\"").await.unwrap();
    old.shutdown(PATIENCE).await;

    let (seen, _) = watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap();
    assert_eq!(kind().await, "classic");
    new.event("happened").timeout(PATIENCE).emit("new").await.unwrap();
    seen.sentinel("\"new\"").await.unwrap();
    assert_eq!(seen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_dead_letters_can_be_changed() {
    let place = Place::shared().await;
    let old = place.bridge().await;
    watch(&old, "reader", Filter::event("happened"), durable()).await.unwrap();
    old.shutdown(PATIENCE).await;
    let new = started(place.builder().max_dead_letters(10)).await;
    watch(&new, "reader", Filter::event("happened"), durable()).await.unwrap();
}
