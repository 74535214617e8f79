//! Queues whose room is limited.

use std::{sync::Arc, time::Duration};

use purista_amqp::QueueType;
use purista_conformance::{Collector, Latch, on_event};
use purista_core::{
    EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter, HandlerError, Payload,
    RetryPolicy, ServiceAddress, Subscription,
};

use crate::support::{PATIENCE, Place, durable, eventually, started, watch};

const QUEUE: &str = "purista.subscription.Watcher-1-reader";

#[tokio::test(flavor = "multi_thread")]
async fn who_emits_into_a_full_queue_waits_and_nothing_is_lost() {
    let place = Place::shared().await;
    let builder = || place.builder().queue_type(QueueType::Classic).max_queue_length(3);
    let away = started(builder()).await;
    watch(&away, "reader", Filter::event("happened"), durable()).await.unwrap();
    away.shutdown(PATIENCE).await;

    let emitter = Arc::new(started(builder()).await);
    let emit = |number: usize, timeout: Duration| {
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        let draft = draft.with_payload(Payload::json(&number).unwrap());
        let emitter = Arc::clone(&emitter);
        async move { emitter.emit_message(draft, &EmitOptions::default().with_timeout(timeout)).await }
    };
    for number in 0..3 {
        emit(number, PATIENCE).await.unwrap();
    }
    let refused = emit(3, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Backpressure, "{refused:?}");
    // Others who listen get an event for which there is room with them.
    let (heard, _) = watch(&emitter, "other", Filter::event("other"), durable()).await.unwrap();
    emitter.event("other").timeout(PATIENCE).emit("has room").await.unwrap();
    heard.sentinel("\"has room\"").await.unwrap();

    let waits = tokio::spawn(emit(4, 2 * PATIENCE));
    let back = started(builder()).await;
    let (seen, _) = watch(&back, "reader", Filter::event("happened"), durable()).await.unwrap();
    waits.await.unwrap().unwrap();
    emit(5, PATIENCE).await.unwrap();
    seen.sentinel("5").await.unwrap();
    assert_eq!(seen.payloads(), ["0", "1", "2", "4", "5"]);
}

/// Beyond its limit nothing is dropped: what has no room stays with its subscriber until there is some.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_beyond_their_limit_wait_for_room() {
    let place = Place::shared().await;
    let bridge = started(place.builder().queue_type(QueueType::Classic).max_dead_letters(2)).await;
    let handler = on_event(|_| async { Err(HandlerError::unhandled("fails")) });
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    let options = durable().with_retry(RetryPolicy::NEVER).with_dead_letter(true);
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
    for number in 0..3 {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    eventually("there is no room", async || bridge.stats().dead_letter_failures > 0).await;
    assert_eq!(bridge.stats().dead_lettered, 2);
    let messages = async |name: &str| place.queue(name).await.unwrap().messages;
    eventually("two are kept, one waits", async || {
        (messages("purista.dead-letters").await, messages(QUEUE).await) == (2, 1)
    })
    .await;

    let management = place.server.management();
    let letters = management.get_messages(&place.vhost, "purista.dead-letters", 2, true).await.unwrap();
    assert_eq!(letters.len(), 2);
    eventually("the third has room", async || bridge.stats().dead_lettered == 3).await;
    eventually("nothing waits", async || messages(QUEUE).await == 0).await;
    let letters = management.get_messages(&place.vhost, "purista.dead-letters", 9, true).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].payload.contains("\"payload\":2"), "{}", letters[0].payload);
}

/// The limit is that of what waits at the broker: what is being handled has left the queue's count of ready messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_goes_on_when_its_subscriber_does() {
    let place = Place::shared().await;
    let bridge = started(place.builder().queue_type(QueueType::Classic).max_queue_length(1)).await;
    let (latch, seen) = (Latch::new(), Collector::new());
    let (gate, log) = (Arc::clone(&latch), Arc::clone(&seen));
    let handler = on_event(move |context| {
        log.record(&context);
        let gate = Arc::clone(&gate);
        async move {
            gate.pass().await;
            Ok(())
        }
    });
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(durable()), handler).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&0).await.unwrap();
    latch.reached(1).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    let bridge = Arc::new(bridge);
    let emitter = Arc::clone(&bridge);
    let waits = tokio::spawn(async move {
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        let draft = draft.with_payload(Payload::json(&2).unwrap());
        emitter.emit_message(draft, &EmitOptions::default().with_timeout(2 * PATIENCE)).await
    });
    eventually("one is ready", async || place.queue(QUEUE).await.unwrap().messages_ready == 1).await;
    assert!(!waits.is_finished());
    latch.open();
    waits.await.unwrap().unwrap();
    seen.sentinel("2").await.unwrap();
    assert_eq!(seen.payloads(), ["0", "1", "2"]);
}
