//! The broker has no memory left, and reads nothing from those who publish.

use std::{sync::Arc, time::Duration};

use purista_amqp::AmqpBridge;
use purista_conformance::{Collector, Latch};
use purista_core::{
    EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter, Payload,
    ServiceAddress, Subscription,
};
use purista_integration_tests::rabbitmq::RabbitConfig;
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, durable, eventually, held, started};

const QUEUED: usize = 50;

async fn emit(bridge: &AmqpBridge, number: usize, timeout: Duration) -> purista_core::Result<()> {
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    let draft = draft.with_payload(Payload::json(&number).unwrap());
    bridge.emit_message(draft, &EmitOptions::default().with_timeout(timeout)).await.map(drop)
}

/// Waits until the broker keeps a connection that publishes from publishing.
async fn is_blocked(place: &Place) {
    let management = place.server.management();
    eventually("a connection is blocked", async || {
        let connections = management.connections(&place.vhost).await.unwrap();
        connections.iter().any(|connection| connection.state.starts_with("block"))
    })
    .await;
}

async fn nothing_is_lost_in_an_alarm(is_typescript: bool) {
    let place = Place::own(RabbitConfig::default()).await;
    let builder = || if is_typescript { place.typescript() } else { place.builder() };
    let (bridge, emitter) = (started(builder()).await, started(builder()).await);
    let (seen, latch) = (Collector::new(), Latch::new());
    let handler = held(&seen, &latch);
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(durable()), handler).await.unwrap();
    for number in 0..QUEUED {
        emit(&emitter, number, PATIENCE).await.unwrap();
    }
    latch.reached(1).await.unwrap();

    place.server.set_memory_alarm(true).await.unwrap();
    let began = Instant::now();
    let limit = Duration::from_secs(2);
    let error = emit(&emitter, 1_000, limit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backpressure, "{error:?}");
    let took = began.elapsed();
    assert!(took >= limit && took < limit + PATIENCE / 2, "{took:?}");
    is_blocked(&place).await;
    let waits = {
        let emitter = Arc::new(emitter);
        let bridge = Arc::clone(&emitter);
        (tokio::spawn(async move { emit(&bridge, QUEUED, 3 * PATIENCE).await }), emitter)
    };

    // What is queued goes on to be delivered one by one, each after the acknowledgement of the one before.
    latch.open();
    seen.at_least(QUEUED).await.unwrap();
    let queue =
        if is_typescript { "purista.sub.Watcher.1.reader" } else { "purista.subscription.Watcher-1-reader" };
    eventually("all is acknowledged", async || place.queue(queue).await.unwrap().messages == 0).await;
    let numbers: Vec<_> = (0..QUEUED).map(|number| number.to_string()).collect();
    assert_eq!(seen.payloads(), numbers);
    let (waiting, emitter) = waits;
    assert!(!waiting.is_finished());

    place.server.set_memory_alarm(false).await.unwrap();
    waiting.await.unwrap().unwrap();
    emit(&emitter, QUEUED + 1, PATIENCE).await.unwrap();
    seen.sentinel(&(QUEUED + 1).to_string()).await.unwrap();
    // The one that was given up may have come all the same.
    let mut after: Vec<usize> =
        seen.payloads()[QUEUED..].iter().map(|number| number.parse().unwrap()).collect();
    after.retain(|number| *number != 1_000);
    assert_eq!(after, [QUEUED, QUEUED + 1]);
    bridge.event("happened").timeout(PATIENCE).emit("from the other").await.unwrap();
    seen.sentinel("\"from the other\"").await.unwrap();
    assert!(bridge.health().is_healthy(), "{:?}", bridge.health());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_emits_in_an_alarm_waits_and_nothing_is_lost() {
    nothing_is_lost_in_an_alarm(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_emits_in_an_alarm_waits_and_nothing_is_lost_beside_the_original() {
    nothing_is_lost_in_an_alarm(true).await;
}
