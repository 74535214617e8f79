//! What a bridge declares, and what it leaves.

use std::collections::BTreeSet;

use purista_core::{
    CommandOptions, EventBridge as _, EventBridgeExt as _, Filter, MessageType, Sharing, SubscriptionOptions,
};
use purista_integration_tests::rabbitmq::Queue;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, durable, echo, eventually_is, serve_with, started, transient, watch};

fn broadcast() -> SubscriptionOptions {
    SubscriptionOptions::default().with_sharing(Sharing::Broadcast).with_durable(false)
}

/// Durable, auto-delete, exclusive.
fn flags(queue: &Queue) -> (bool, bool, bool) {
    (queue.durable, queue.auto_delete, queue.exclusive)
}

fn arguments(queue: &Queue) -> Value {
    Value::Object(queue.arguments.clone())
}

/// All that is declared, but for queues of answers, whose names are random.
async fn declared(place: &Place) -> BTreeSet<String> {
    let queues = place.queues().await.into_iter().map(|queue| format!("queue {}", queue.name));
    let exchanges = place.exchanges().await.into_iter().map(|exchange| format!("exchange {}", exchange.name));
    let bindings = place.bindings().await.into_iter();
    let bindings = bindings.map(|binding| format!("binding {} {}", binding.source, binding.destination));
    let all = queues.chain(exchanges).chain(bindings);
    // What belongs to a bridge as such, and what is there for moments: a turn may end after its registration.
    all.filter(|what| !what.contains(".reply.") && !what.contains(".turn.")).collect()
}

/// Waits until a transient thing is gone: the broker does that after it has answered.
async fn gone(place: &Place, before: &BTreeSet<String>) {
    let is_as_before = eventually_is(async || declared(place).await == *before).await;
    if !is_as_before {
        let now = declared(place).await;
        let (left, lost): (Vec<_>, Vec<_>) =
            (now.difference(before).collect(), before.difference(&now).collect());
        panic!("left: {left:?}, lost: {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_the_default_topology_are_kept_as_long_as_they_are_needed() {
    let place = Place::shared().await;
    let bridge = started(place.builder().instance_id("one")).await;
    watch(&bridge, "kept", Filter::event("happened"), durable()).await.unwrap();
    watch(&bridge, "shared", Filter::event("happened"), transient()).await.unwrap();
    watch(&bridge, "each", Filter::event("happened"), broadcast()).await.unwrap();
    let options = CommandOptions::default();
    serve_with(&bridge, ("User", "1", "ask"), options.clone().with_durable(false), echo()).await;
    serve_with(&bridge, ("User", "1", "wait"), options.with_durable(true), echo()).await;

    let queues = place.queues().await;
    let queue = |name: &str| {
        let known = || queues.iter().map(|queue| &queue.name).collect::<Vec<_>>();
        queues
            .iter()
            .find(|queue| queue.name == name || (name.ends_with('.') && queue.name.starts_with(name)))
            .unwrap_or_else(|| panic!("no {name}: {:?}", known()))
    };
    let kept = queue("purista.subscription.Watcher-1-kept");
    assert_eq!((flags(kept), kept.kind.as_str()), ((true, false, false), "quorum"));
    assert_eq!(
        arguments(kept),
        json!({
            "x-queue-type": "quorum",
            "x-delivery-limit": 1_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "purista.dead-letters",
        })
    );
    let shared = queue("purista.subscription.Watcher-1-shared");
    assert_eq!((flags(shared), shared.kind.as_str()), ((true, true, false), "classic"));
    assert_eq!(arguments(shared), json!({ "x-queue-type": "classic", "x-expires": 60_000 }));
    let each = queue("purista.broadcast.Watcher-1-each.");
    assert_eq!((flags(each), arguments(each)), ((false, true, true), json!({})));

    let ask = queue("purista.command.User-1-ask");
    assert_eq!(
        (flags(ask), arguments(ask)),
        ((true, true, false), json!({ "x-queue-type": "classic", "x-expires": 60_000 }))
    );
    let own = queue("purista.instance.User-1-ask.");
    assert_eq!((flags(own), arguments(own)), ((false, true, true), json!({})));
    let wait = queue("purista.command.User-1-wait");
    assert_eq!((flags(wait), arguments(wait)), ((true, false, false), json!({ "x-queue-type": "quorum" })));
    let answers = queue("purista.reply.one.");
    assert_eq!(flags(answers), (false, true, true));
    let letters = queue("purista.dead-letters");
    assert_eq!((flags(letters), letters.kind.as_str()), ((true, false, false), "quorum"));
    let limited = json!({
        "x-queue-type": "quorum",
        "x-max-length": 100_000,
        "x-overflow": "reject-publish",
        // Who lists dead letters has them delivered.
        "x-delivery-limit": i32::MAX,
    });
    assert_eq!(arguments(letters), limited);

    // RabbitMQ 4.3 has no transient queues that connections share.
    let deprecated: Vec<_> = queues.iter().filter(|queue| !queue.durable && !queue.exclusive).collect();
    assert!(deprecated.is_empty(), "{deprecated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_the_other_topology_are_those_of_the_original() {
    let place = Place::shared().await;
    let bridge = started(place.typescript()).await;
    watch(&bridge, "kept", Filter::event("happened"), durable()).await.unwrap();
    watch(&bridge, "shared", Filter::event("happened"), transient()).await.unwrap();
    watch(&bridge, "each", Filter::event("happened"), broadcast()).await.unwrap();
    serve_with(&bridge, ("User", "1", "echo"), CommandOptions::default(), echo()).await;
    for (name, expected) in [
        ("purista.sub.Watcher.1.kept", (true, false, false)),
        ("purista.sub.Watcher.1.shared", (false, false, false)),
        ("purista.cmd.User.1.echo", (false, true, false)),
    ] {
        let queue = place.queue(name).await.unwrap();
        assert_eq!((flags(&queue), arguments(&queue)), (expected, json!({})), "{name}");
    }
    let queues = place.queues().await;
    let each = queues.iter().find(|queue| queue.name.starts_with("purista.broadcast.")).unwrap();
    assert_eq!((flags(each), arguments(each)), ((false, true, true), json!({})));

    let bindings = place.bindings().await;
    let of_command = bindings.iter().find(|it| it.destination == "purista.cmd.User.1.echo").unwrap();
    assert_eq!((of_command.source.as_str(), of_command.routing_key.as_str()), ("purista", ""));
    assert_eq!(
        Value::Object(of_command.arguments.clone()),
        json!({
            "x-match": "all",
            "messageType": "command",
            "receiverServiceName": "User",
            "receiverServiceVersion": "1",
            "receiverServiceTarget": "echo",
        })
    );
    let exchanges = place.exchanges().await;
    let main = exchanges.iter().find(|exchange| exchange.name == "purista").unwrap();
    assert_eq!((main.kind.as_str(), main.durable, main.auto_delete), ("headers", true, false));
}

/// What leads to the exchange of a subscriber, as source and key.
async fn ways(place: &Place, subscriber: &str) -> Vec<(String, String)> {
    let gate = format!("purista.subscription.Watcher-1-{subscriber}");
    let to = place.bindings().await.into_iter().filter(|it| it.destination == gate && it.source != gate);
    let mut ways: Vec<_> = to.map(|it| (it.source, it.routing_key)).collect();
    ways.sort();
    ways
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_a_name_or_a_pattern_of_addresses() {
    let place = Place::shared().await;
    let bridge = place.bridge().await;
    let way = |exchange: &str, key: &str| (exchange.to_owned(), key.to_owned());
    watch(&bridge, "byName", Filter::event("happened"), durable()).await.unwrap();
    let by_name = ["purista.commands", "purista.events", "purista.responses"];
    assert_eq!(ways(&place, "byName").await, by_name.map(|exchange| way(exchange, "event-happened")));
    let custom = Filter::message_type(MessageType::CustomMessage).with_tenant_id("acme");
    watch(&bridge, "custom", custom, durable()).await.unwrap();
    let pattern = "purista.custom_message.*.acme.*.*.*.*.*.*.*.*.*";
    assert_eq!(ways(&place, "custom").await, [way("purista.events", pattern)]);
}

async fn transient_things_leave_nothing(is_typescript: bool) {
    let place = Place::shared().await;
    let builder = || if is_typescript { place.typescript() } else { place.builder() };
    let (bridge, other) = (started(builder()).await, started(builder()).await);
    // The queue of dead letters is there for all from now on.
    watch(&bridge, "kept", Filter::event("happened"), durable()).await.unwrap();
    let before = declared(&place).await;
    for filter in [Filter::event("happened"), Filter::any()] {
        let (_, first) = watch(&bridge, "shared", filter.clone(), transient()).await.unwrap();
        let (second, last) = watch(&other, "shared", filter.clone(), transient()).await.unwrap();
        let (_, each) = watch(&bridge, "each", filter, broadcast()).await.unwrap();
        first.unregister().await.unwrap();
        // The other instance goes on.
        bridge.event("happened").timeout(PATIENCE).emit("after").await.unwrap();
        second.sentinel("\"after\"").await.unwrap();
        each.unregister().await.unwrap();
        last.unregister().await.unwrap();
        gone(&place, &before).await;
    }
    let command =
        serve_with(&bridge, ("User", "1", "ask"), CommandOptions::default().with_durable(false), echo())
            .await;
    command.unregister().await.unwrap();
    gone(&place, &before).await;
    // Neither does a bridge that ends with all it has.
    watch(&other, "shared", Filter::any(), transient()).await.unwrap();
    watch(&other, "each", Filter::any(), broadcast()).await.unwrap();
    other.shutdown(PATIENCE).await;
    gone(&place, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_transient_things() {
    transient_things_leave_nothing(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_transient_things_beside_the_original() {
    transient_things_leave_nothing(true).await;
}
