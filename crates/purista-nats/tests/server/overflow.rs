//! More than may wait in the process.

use std::sync::Arc;

use purista_conformance::{Latch, on_command};
use purista_core::{
    CommandDraft, CommandOptions, EventBridge as _, InvokeError, Payload, ServiceAddress, StatusCode,
};
use purista_nats::NatsBridge;
use tokio::task::JoinSet;

use crate::support::{Place, invoke, serve_with, started};

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
    let handler = {
        let latch = Arc::clone(&latch);
        on_command(move |_| {
            let latch = Arc::clone(&latch);
            async move {
                latch.pass().await;
                Ok(None)
            }
        })
    };
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
