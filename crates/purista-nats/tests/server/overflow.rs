//! More than may wait in the process.

use std::sync::Arc;

use futures_util::future::join_all;
use purista_conformance::{Collector, Latch, NetworkFault, on_event};
use purista_core::{
    CommandDraft, CommandOptions, EventBridge as _, EventBridgeExt as _, Filter, InvokeError, Payload,
    Receiver, ServiceAddress, StatusCode, Subscription, SubscriptionOptions,
};
use purista_integration_tests::FaultProxy;
use purista_nats::NatsBridge;
use tokio::{runtime::Handle, task::JoinSet};

use crate::support::{PATIENCE, Place, echo, eventually, held, invoke, serve, serve_with, started};

/// How many may wait.
const ROOM: usize = 4;

/// How many come beyond that.
const MORE: usize = 10;

fn draft(payload: &str) -> CommandDraft {
    let draft = CommandDraft::new(ServiceAddress::client(), ("Slow", "1", "work"));
    draft.with_payload(Payload::json(payload).unwrap())
}

/// Calls a command that handles one at a time until so many wait, and some more.
async fn extra_callers_are_told(service: NatsBridge, caller: NatsBridge, payload: String) {
    let latch = Latch::new();
    let handler = held(&latch);
    let one_at_a_time = CommandOptions::default().with_max_concurrency(1);
    serve_with(&service, ("Slow", "1", "work"), one_at_a_time, handler).await;
    let (caller, mut calls) = (Arc::new(caller), JoinSet::new());
    let call = |payload: String| {
        let caller = Arc::clone(&caller);
        async move { invoke(&caller, draft(&payload)).await }
    };
    calls.spawn(call(payload.clone()));
    latch.reached(1).await.unwrap();
    for _ in 0..ROOM + MORE {
        calls.spawn(call(payload.clone()));
    }
    for told in 0..MORE {
        let outcome = calls.join_next().await.unwrap().unwrap();
        let unavailable = matches!(outcome, Err(InvokeError::Unhandled(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(unavailable, "after {told}: {outcome:?}");
    }
    assert_eq!(service.stats().overflowed, MORE as u64);
    latch.open();
    while let Some(outcome) = calls.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(service.stats().executed, 1 + ROOM as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_beyond_the_bytes_that_may_wait_are_told_at_once() {
    let place = Place::shared(true).await;
    // With its envelope, each has some more than that.
    let size = 10_000;
    let service = started(place.builder().pending_limits(1_000, (ROOM + 1) * size)).await;
    extra_callers_are_told(service, place.bridge().await, "x".repeat(size)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_beyond_the_number_that_may_wait_are_told_at_once() {
    let place = Place::shared(true).await;
    let service = started(place.builder().pending_limits(ROOM, 1 << 20)).await;
    extra_callers_are_told(service, place.bridge().await, "x".to_owned()).await;
}

/// Core NATS has nobody to tell: the loss is counted.
#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_the_number_that_may_wait_are_lost_and_counted() {
    let place = Place::shared(false).await;
    let bridge = started(place.builder().without_jetstream().pending_limits(ROOM, 1 << 20)).await;
    let (latch, seen) = (Latch::new(), Collector::new());
    let handler = {
        let (latch, seen) = (Arc::clone(&latch), Arc::clone(&seen));
        on_event(move |context| {
            seen.record(&context);
            let latch = Arc::clone(&latch);
            async move {
                latch.pass().await;
                Ok(())
            }
        })
    };
    let options = SubscriptionOptions::default().with_max_concurrency(1);
    let subscription = Subscription::new(("Slow", "1", "reader"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
    let emitter = place.bridge().await;
    emitter.event("happened").timeout(PATIENCE).emit(&0).await.unwrap();
    latch.reached(1).await.unwrap();
    for number in 1..=ROOM + MORE {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    eventually("all that is too much", || bridge.stats().overflowed == MORE as u64).await;
    latch.open();
    seen.at_least(1 + ROOM).await.unwrap();
    assert_eq!(seen.payloads(), ["0", "1", "2", "3", "4"]);
}

/// How many commands one instance passes on at once, and how many callers it tells at once that there is no room.
const BESIDE: usize = 256;

/// A server that takes nothing more keeps what is passed on and answered under way: beyond a bound, nothing more begins.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_to_other_instances_is_bounded() {
    const CALLS: usize = 4 * BESIDE;
    let place = Place::shared(false).await;
    let proxy = FaultProxy::start(place.server.address()).unwrap();
    let service = started(place.builder_for(&format!("nats://{}", proxy.address()))).await;
    serve(&service, ("User", "1", "echo"), echo()).await;
    let caller = Arc::new(place.bridge().await);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    proxy.break_network(NetworkFault::Stall);
    let calls = tokio::spawn({
        let caller = Arc::clone(&caller);
        async move {
            let receiver = Receiver::new(("User", "1", "echo")).with_instance_id("gone");
            let draft = CommandDraft::new(ServiceAddress::client(), receiver);
            join_all((0..CALLS).map(|_| invoke(&caller, draft.clone()))).await
        }
    });
    eventually("what is too much", || service.stats().overflowed == (CALLS - BESIDE) as u64).await;
    // One task makes the calls.
    let begun = tasks().saturating_sub(before + 1);
    assert!((BESIDE..=2 * BESIDE).contains(&begun), "{begun} tasks");
    calls.abort();
    proxy.mend();
    eventually("all ended", || tasks() <= before).await;
}
