//! Commands whose names have the same subject.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use purista_conformance::on_command;
use purista_core::{
    CommandDraft, CommandHandler, ErrorKind, EventBridge as _, InvokeOptions, Payload, ServiceAddress,
};
use purista_nats::NatsBridge;
use tokio::task::JoinSet;

use crate::support::{Place, invoke, serve};

const CALLS: usize = 100;

fn says(name: &'static str) -> Arc<dyn CommandHandler> {
    on_command(move |_| async move { Ok(Some(Payload::json(name)?)) })
}

async fn each_caller_gets_its_answer(caller: NatsBridge, names: &'static [&'static str]) {
    let (caller, mut calls) = (Arc::new(caller), JoinSet::new());
    for name in names.iter().cycle().take(CALLS * names.len()) {
        let draft = CommandDraft::new(ServiceAddress::client(), (*name, "1", "work"));
        let caller = Arc::clone(&caller);
        calls.spawn(async move { (name, invoke(&caller, draft).await) });
    }
    while let Some(outcome) = calls.join_next().await {
        let (name, outcome) = outcome.unwrap();
        let answer = outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(answer.payload().unwrap().deserialize::<String>().unwrap(), **name);
    }
    let stats = caller.stats();
    assert_eq!((stats.forged_responses, stats.pending_calls), (0, 0), "{stats:?}");
}

async fn a_call_that_nobody_is_meant_by_ends(caller: &NatsBridge, name: &str) {
    let draft = CommandDraft::new(ServiceAddress::client(), (name, "1", "work"));
    let options = InvokeOptions::default().with_timeout(Duration::from_secs(2));
    let began = Instant::now();
    let error = caller.invoke_command(draft, &options).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
    // Somebody else might have answered until then.
    assert!(began.elapsed() >= options.timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_namesakes_answer_their_own_callers() {
    let place = Place::shared(true).await;
    let bridges = [place.bridge().await, place.bridge().await];
    serve(&bridges[0], ("acme-1", "1", "work"), says("acme-1")).await;
    serve(&bridges[1], ("acme_1", "1", "work"), says("acme_1")).await;
    a_call_that_nobody_is_meant_by_ends(&bridges[0], "acme 1").await;
    each_caller_gets_its_answer(place.bridge().await, &["acme-1", "acme_1"]).await;
    let executed = bridges.map(|bridge| bridge.stats().executed);
    assert_eq!(executed, [CALLS as u64; 2]);
}

/// The original names the queue groups of these alike too.
#[tokio::test(flavor = "multi_thread")]
async fn namesakes_with_the_same_queue_group_answer_their_own_callers() {
    let place = Place::shared(true).await;
    let bridges = [place.bridge().await, place.bridge().await];
    serve(&bridges[0], ("acme", "1", "work"), says("acme")).await;
    serve(&bridges[1], ("Acme", "1", "work"), says("Acme")).await;
    a_call_that_nobody_is_meant_by_ends(&bridges[0], "ACME").await;
    each_caller_gets_its_answer(place.bridge().await, &["acme", "Acme"]).await;
    serve(&bridges[1], ("ACME", "1", "work"), says("ACME")).await;
    each_caller_gets_its_answer(place.bridge().await, &["acme", "Acme", "ACME"]).await;
}
