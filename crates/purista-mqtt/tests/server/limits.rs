//! Messages that are too large, for us or for the broker, and more of them than may wait.

use std::sync::Arc;

use purista_conformance::{Latch, on_command};
use purista_core::{
    BridgeEvent, CommandDraft, CommandOptions, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _,
    EventDraft, Filter, InvokeError, Payload, ServiceAddress, StatusCode,
};
use purista_integration_tests::mosquitto::MosquittoConfig;
use purista_mqtt::MqttBridge;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Place, in_order, invoke, serve_with, started, watch};

/// Returns text that is so long as JSON.
fn json(bytes: usize) -> String {
    "x".repeat(bytes - 2)
}

async fn emit(bridge: &MqttBridge, bytes: usize) -> Result<(), ErrorKind> {
    bridge
        .event("happened")
        .timeout(PATIENCE)
        .emit(&json(bytes))
        .await
        .map(drop)
        .map_err(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_taken_up_to_the_limit() {
    let place = Place::stock().await;
    let bridge = started(place.builder().max_payload(1_000)).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    assert_eq!(emit(&bridge, 1_001).await, Err(ErrorKind::payload_too_large(1_001, 1_000)));
    let draft = CommandDraft::new(ServiceAddress::client(), ("Nobody", "1", "serves"));
    let draft = draft.with_payload(Payload::json(&json(1_001)).unwrap());
    let error = invoke(&bridge, draft).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::payload_too_large(1_001, 1_000)), "{error:?}");
    assert_eq!(emit(&bridge, 1_000).await, Ok(()));
    seen.at_least(1).await.unwrap();
    assert_eq!(seen.count(), 1);
}

/// The broker says what it takes when a bridge connects.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_take_is_refused_before_it_is_sent() {
    for (limit, expected) in [(8_000, 4_000), (200_000, 200_000 - 65_536)] {
        let place = Place::on(MosquittoConfig::stock().with_lines(format!("max_packet_size {limit}"))).await;
        let bridge = place.bridge().await;
        let mut events = bridge.events();
        let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
        assert_eq!(bridge.capabilities().max_payload(), expected);
        let too_large = ErrorKind::payload_too_large(expected + 1, expected);
        assert_eq!(emit(&bridge, expected + 1).await, Err(too_large));
        assert_eq!(emit(&bridge, expected).await, Ok(()));
        bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
        seen.sentinel("\"sentinel\"").await.unwrap();
        assert_eq!(seen.count(), 2);
        bridge.shutdown(PATIENCE).await;
        assert_eq!(events.next().await, Some(BridgeEvent::Draining), "the connection was lost");
    }
}

/// Names and ids have room in a packet as well.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_that_the_broker_does_not_take_harms_no_other_message() {
    let place = Place::on(MosquittoConfig::stock().with_lines("max_packet_size 4000")).await;
    let bridge = place.bridge().await;
    let mut events = bridge.events();
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let long = "x".repeat(255);
    let draft = EventDraft::event((long.as_str(), long.as_str(), long.as_str()), "happened")
        .with_receiver((long.as_str(), long.as_str(), long.as_str()))
        .with_principal_id(long.as_str())
        .with_tenant_id(long.as_str())
        .with_payload(Payload::json(&json(2_000)).unwrap());
    let error = bridge.emit_message(draft, &EmitOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PayloadTooLarge { .. }), "{error:?}");
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    bridge.shutdown(PATIENCE).await;
    assert_eq!(events.next().await, Some(BridgeEvent::Draining), "the connection was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_larger_than_we_take_does_not_come_and_its_neighbours_do() {
    let place = Place::stock().await;
    let (small, large) = (started(place.builder().max_payload(1_000)).await, place.bridge().await);
    let mut events = small.events();
    let seen = watch(&small, "small", Filter::event("happened"), in_order()).await.unwrap();
    let by_large = watch(&large, "large", Filter::event("happened"), in_order()).await.unwrap();
    for number in 0..3 {
        large.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        assert_eq!(emit(&large, 100_000).await, Ok(()));
    }
    large.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    by_large.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(seen.payloads(), ["0", "1", "2", "\"sentinel\""]);
    assert_eq!(by_large.count(), 7);
    small.shutdown(PATIENCE).await;
    assert_eq!(events.next().await, Some(BridgeEvent::Draining), "the connection was lost");
}

/// How many calls may wait.
const ROOM: usize = 4;

/// How many come beyond that.
const MORE: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn callers_beyond_the_number_that_may_wait_are_told_at_once() {
    let place = Place::stock().await;
    let service = started(place.builder().pending_limits(ROOM, 1 << 20)).await;
    let (latch, caller) = (Latch::new(), Arc::new(place.bridge().await));
    let gate = Arc::clone(&latch);
    let handler = on_command(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.pass().await;
            Ok(None)
        }
    });
    let options = CommandOptions::default().with_max_concurrency(1);
    serve_with(&service, ("Slow", "1", "work"), options, handler).await;
    let mut calls = JoinSet::new();
    let call = || {
        let caller = Arc::clone(&caller);
        async move { invoke(&caller, CommandDraft::new(ServiceAddress::client(), ("Slow", "1", "work"))).await }
    };
    calls.spawn(call());
    latch.reached(1).await.unwrap();
    for _ in 0..ROOM + MORE {
        calls.spawn(call());
    }
    for told in 0..MORE {
        let outcome = calls.join_next().await.unwrap().unwrap();
        let is_unavailable = matches!(outcome, Err(InvokeError::Unhandled(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(is_unavailable, "after {told}: {outcome:?}");
    }
    assert_eq!(service.stats().overflowed, MORE as u64);
    latch.open();
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(service.stats().executed, 1 + ROOM as u64);
}
