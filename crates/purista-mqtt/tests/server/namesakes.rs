//! Commands whose names have the same topic, and instances whose ids have the same level.

use std::sync::Arc;

use purista_conformance::on_command;
use purista_core::{
    CommandDraft, CommandHandler, ErrorKind, EventBridge as _, Payload, Receiver, ServiceAddress,
};
use purista_mqtt::MqttBridge;
use tokio::task::JoinSet;

use crate::support::{Place, invoke, serve};

const CALLS: usize = 100;

fn says(name: &'static str) -> Arc<dyn CommandHandler> {
    on_command(move |_| async move { Ok(Some(Payload::json(name)?)) })
}

async fn each_caller_gets_its_answer(caller: MqttBridge, names: Vec<&'static str>) {
    let (caller, mut calls) = (Arc::new(caller), JoinSet::new());
    for name in names.iter().copied().cycle().take(CALLS * names.len()) {
        let draft = CommandDraft::new(ServiceAddress::client(), (name, "1", "work"));
        let caller = Arc::clone(&caller);
        calls.spawn(async move { (name, invoke(&caller, draft).await) });
    }
    while let Some(outcome) = calls.join_next().await {
        let (name, outcome) = outcome.unwrap();
        let answer = outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(answer.payload().unwrap().deserialize::<String>().unwrap(), *name);
    }
    let stats = caller.stats();
    assert_eq!((stats.forged_responses, stats.pending_calls), (0, 0), "{stats:?}");
}

async fn a_call_that_nobody_is_meant_by_ends(caller: &MqttBridge, receiver: Receiver) {
    let draft = CommandDraft::new(ServiceAddress::client(), receiver);
    let error = invoke(caller, draft).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_namesakes_answer_their_own_callers() {
    for names in [["acme-1", "acme_1", "acme 1"], ["acme", "Acme", "-acme"]] {
        let place = Place::stock().await;
        let bridges = [place.bridge().await, place.bridge().await];
        for (bridge, name) in bridges.iter().zip(names) {
            serve(bridge, (name, "1", "work"), says(name)).await;
        }
        a_call_that_nobody_is_meant_by_ends(&bridges[0], Receiver::new((names[2], "1", "work"))).await;
        each_caller_gets_its_answer(place.bridge().await, names[..2].to_vec()).await;
        let executed = bridges.map(|bridge| bridge.stats().executed);
        assert_eq!(executed, [CALLS as u64; 2], "{names:?}");
    }
}

/// A bridge subscribes once to what they share.
#[tokio::test(flavor = "multi_thread")]
async fn namesakes_in_one_bridge_answer_their_own_callers() {
    let place = Place::stock().await;
    let names = ["acme", "Acme", "-acme"];
    let bridge = place.bridge().await;
    let mut registrations = Vec::new();
    for name in names {
        registrations.push(serve(&bridge, (name, "1", "work"), says(name)).await);
    }
    each_caller_gets_its_answer(place.bridge().await, names.to_vec()).await;
    // When the first one goes, the others stay.
    registrations.remove(0).unregister().await.unwrap();
    let caller = place.bridge().await;
    a_call_that_nobody_is_meant_by_ends(&caller, Receiver::new(("acme", "1", "work"))).await;
    each_caller_gets_its_answer(caller, names[1..].to_vec()).await;
    assert_eq!(bridge.stats().executed, 5 * CALLS as u64);
}

/// What is meant for one comes to all of them in turn, also to those that are about to go.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_namesakes_come_and_go() {
    let place = Place::stock().await;
    let (service, other) = (place.bridge().await, place.bridge().await);
    serve(&service, ("acme", "1", "work"), says("acme")).await;
    let caller = tokio::spawn(each_caller_gets_its_answer(place.bridge().await, vec!["acme"; 20]));
    let mut rounds = 0;
    while !caller.is_finished() || rounds < 5 {
        for bridge in [&service, &other] {
            let namesake = serve(bridge, ("Acme", "1", "work"), says("Acme")).await;
            namesake.unregister().await.unwrap();
        }
        rounds += 1;
    }
    caller.await.unwrap();
    assert_eq!(service.stats().executed, 20 * CALLS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_one_instance_is_served_by_that_one() {
    let place = Place::stock().await;
    // Both have the same level in topics.
    let (meant, other) = (place.instance("node-1").await, place.instance("node_1").await);
    let caller = place.bridge().await;
    for bridge in [&meant, &other] {
        serve(bridge, ("User", "1", "work"), says("work")).await;
    }
    for _call in 0..20 {
        let receiver = Receiver::new(("User", "1", "work")).with_instance_id("node-1");
        let answer = invoke(&caller, CommandDraft::new(ServiceAddress::client(), receiver)).await.unwrap();
        assert_eq!(answer.sender.instance_id, *meant.instance_id());
    }
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);
    for nobody in ["node 1", "node-2"] {
        let receiver = Receiver::new(("User", "1", "work")).with_instance_id(nobody);
        a_call_that_nobody_is_meant_by_ends(&caller, receiver).await;
    }
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_are_namesakes_get_their_own_answers() {
    let place = Place::stock().await;
    let (one, other) = (place.instance("web-1").await, place.instance("web_1").await);
    let service = place.bridge().await;
    serve(&service, ("acme", "1", "work"), says("acme")).await;
    each_caller_gets_its_answer(one, vec!["acme"]).await;
    each_caller_gets_its_answer(other, vec!["acme"]).await;
}
