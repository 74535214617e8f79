//! One of several instances stops while there is much to do.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use purista_conformance::{Collector, on_command};
use purista_core::{
    CommandDraft, CommandOptions, EmitOptions, EventBridge as _, EventDraft, Filter, Payload, ServiceAddress,
    Subscription, SubscriptionOptions,
};
use purista_nats::NatsBridge;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Place, invoke, reaches, serve_with};

/// How many are done before the instance stops, and again when it has stopped.
const MESSAGES: usize = 1_500;
const IN_FLIGHT: usize = 64;

/// Works so much at a time, before, while and after the instance stops. Returns how much was done.
async fn work_while<F>(
    stops: impl Future<Output = ()>,
    work: impl Fn(usize) -> F + Clone + Send + 'static,
) -> usize
where
    F: Future<Output = ()> + Send,
{
    let (done, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut tasks = JoinSet::new();
    for task in 0..IN_FLIGHT {
        let (work, done, is_over) = (work.clone(), Arc::clone(&done), Arc::clone(&is_over));
        tasks.spawn(async move {
            for number in (task..).step_by(IN_FLIGHT) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                work(number).await;
                done.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    let count = || done.load(Ordering::Acquire);
    reaches(MESSAGES, &count).await;
    stops.await;
    let before = count();
    reaches(before + MESSAGES, &count).await;
    is_over.store(true, Ordering::Release);
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    count()
}

/// Checks that each of so many messages came to one instance once, and that both took part.
fn came_once(seen: &[Arc<Collector>], all: usize) {
    let messages: Vec<_> = seen.iter().flat_map(|seen| seen.messages()).collect();
    let ids: BTreeSet<_> = messages.iter().map(|message| message.id.clone()).collect();
    assert_eq!((messages.len(), ids.len()), (all, all), "came, distinct");
    assert!(seen.iter().all(|seen| seen.count() > 0));
}

async fn serve_slowly(bridge: &NatsBridge) -> Arc<Collector> {
    let seen = Collector::new();
    let log = Arc::clone(&seen);
    let handler = on_command(move |context| {
        log.record(&context);
        async move {
            // So that some wait when the instance stops.
            tokio::task::yield_now().await;
            Ok(context.message().payload().cloned())
        }
    });
    let options = CommandOptions::default().with_max_concurrency(8);
    serve_with(bridge, ("Worker", "1", "work"), options, handler).await;
    seen
}

async fn no_call_fails(has_jetstream: bool) {
    let place = Place::shared(has_jetstream).await;
    let (stays, goes, caller) = (place.bridge().await, place.bridge().await, place.bridge().await);
    let seen = [serve_slowly(&stays).await, serve_slowly(&goes).await];
    let caller = Arc::new(caller);
    let call = move |number: usize| {
        let caller = Arc::clone(&caller);
        async move {
            let draft = CommandDraft::new(ServiceAddress::client(), ("Worker", "1", "work"));
            let payload = Payload::json(&number).unwrap();
            let answer = invoke(&caller, draft.with_payload(payload.clone())).await;
            let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
            assert_eq!(answer.payload(), Some(&payload));
        }
    };
    let stop = async move {
        let report = goes.shutdown(PATIENCE).await;
        assert!(report.is_clean(), "{report:?}");
    };
    let all = work_while(stop, call).await;
    came_once(&seen, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_when_an_instance_stops() {
    no_call_fails(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_when_an_instance_stops_without_jetstream() {
    no_call_fails(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_lost_when_an_instance_stops() {
    let place = Place::shared(true).await;
    let (stays, goes, emitter) = (place.bridge().await, place.bridge().await, place.bridge().await);
    let mut seen = Vec::new();
    for bridge in [&stays, &goes] {
        let collector = Collector::new();
        let subscription = Subscription::new(("Reader", "1", "happened"), Filter::event("happened"));
        let options = SubscriptionOptions::default().with_max_concurrency(8);
        let subscription = subscription.with_options(options);
        bridge.register_subscription(subscription, collector.handler()).await.unwrap();
        seen.push(collector);
    }
    let emitter = Arc::new(emitter);
    let emit = move |number: usize| {
        let emitter = Arc::clone(&emitter);
        async move {
            let draft = EventDraft::event(ServiceAddress::client(), "happened");
            let draft = draft.with_payload(Payload::json(&number).unwrap());
            emitter.emit_message(draft, &EmitOptions::default()).await.unwrap();
        }
    };
    let stop = async move {
        let report = goes.shutdown(PATIENCE).await;
        assert!(report.is_clean(), "{report:?}");
    };
    let all = work_while(stop, emit).await;
    reaches(all, || seen.iter().map(|seen| seen.count()).sum()).await;
    came_once(&seen, all);
}
