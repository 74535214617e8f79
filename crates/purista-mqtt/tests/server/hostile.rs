//! Names and ids that mean something to a broker, or that it does not take.

use purista_conformance::Collector;
use purista_core::{
    CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter, Payload,
    Receiver, ServiceAddress, Subscription,
};
use purista_mqtt::MqttBridge;
use serde_json::json;

use crate::{
    client::topic,
    support::{PATIENCE, Place, echo, eventually, in_order, invoke, serve, watch},
};

/// Wildcards, separators, what the broker keeps to itself, what it ends connections for, and what is long.
fn hostile() -> Vec<String> {
    let short = [
        "+",
        "#",
        "/",
        "//",
        "..",
        "a/b",
        "a/+",
        "../a",
        "$share",
        "$share/group/#",
        "$SYS",
        " ",
        "\t",
        "\0",
        "\r\n",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        "\u{9f}",
        "\u{fdd0}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{feff}",
        "none",
        "_",
        "日本",
    ];
    let mut all: Vec<_> = short.into_iter().map(str::to_owned).collect();
    all.push("/+".repeat(127));
    all
}

/// An event that has this text wherever it can have one.
fn draft(text: &str) -> EventDraft {
    let address = ServiceAddress::new(text, text, text);
    EventDraft::event(&address, text)
        .with_receiver(Receiver::new(&address).with_instance_id(text))
        .with_principal_id(text)
        .with_tenant_id(text)
        .with_trace_id(text)
        .with_correlation_id(text)
        .with_payload(Payload::json(text).unwrap())
}

async fn emit(bridge: &MqttBridge, draft: EventDraft) -> purista_core::Result<()> {
    bridge.emit_message(draft, &EmitOptions::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_who_asks_for_their_names_and_nobody_else() {
    let (place, texts) = (Place::stock().await, hostile());
    let (subscriber, mut everything) = (place.bridge().await, place.client().await);
    everything.subscribe("#").await;
    everything.subscribe("$share/everything/#").await;
    let other = watch(&subscriber, "other", Filter::event("other"), in_order()).await.unwrap();
    let mut seen = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let filter = Filter::event(text.as_str())
            .with_sender(ServiceAddress::new(text.as_str(), text.as_str(), text.as_str()))
            .with_tenant_id(text.as_str())
            .with_principal_id(text.as_str());
        let seen_by = watch(&subscriber, &format!("reader{number}"), filter, in_order()).await.unwrap();
        seen.push(seen_by);
    }
    everything.all().await;
    for text in &texts {
        let bridge = place.instance(text).await;
        emit(&bridge, draft(text)).await.unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        assert!(bridge.health().is_healthy(), "{text:?}");
    }
    subscriber.event("other").timeout(PATIENCE).emit("sentinel").await.unwrap();
    other.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(other.count(), 1);
    for (text, seen) in texts.iter().zip(seen) {
        seen.at_least(1).await.unwrap();
        assert_eq!(seen.payloads(), [json!(text).to_string()]);
    }
    let stats = subscriber.stats();
    assert_eq!(stats.malformed, 0, "{stats:?}");

    let came = everything.all().await;
    // With one level more, a bridge looks whether it may still read what it listens to.
    let is_event = |topic: &&str| topic.contains("/custom_message/") && topic.split('/').count() != 14;
    let events: Vec<_> = came.iter().map(topic).filter(is_event).collect();
    // Each of both subscriptions gets each, and the sentinel.
    assert_eq!(events.len(), 2 * (texts.len() + 1));
    assert!(events.iter().all(|topic| topic.split('/').count() == 13 && topic.starts_with("purista/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_who_has_their_names_and_the_caller_gets_the_answer() {
    let place = Place::stock().await;
    for text in hostile() {
        let (service, caller) = (
            place.instance(&text).await,
            place.instance(&format!("{text}caller")[..text.len().min(240) + 6]).await,
        );
        let address = ServiceAddress::new(text.as_str(), text.as_str(), text.as_str());
        serve(&service, &address, echo()).await;
        for receiver in [Receiver::new(&address), Receiver::new(&address).with_instance_id(text.as_str())] {
            let draft = CommandDraft::new(&address, receiver)
                .with_tenant_id(text.as_str())
                .with_payload(Payload::json(&text).unwrap());
            let answer = invoke(&caller, draft).await.unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            assert_eq!(answer.payload(), Some(&Payload::json(&text).unwrap()));
        }
        serve(&service, ("Greeter", "1", "greet"), echo()).await;
        let greeting: String = caller.invoke(("Greeter", "1", "greet"), "sentinel").await.unwrap();
        assert_eq!(greeting, "sentinel");
        assert_eq!(service.stats().executed, 3, "{text:?}");
        // The next name may have the same topic.
        service.shutdown(PATIENCE).await;
    }
}

/// Each of them is another subscriber, and two instances of each share its messages.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_never_share_by_their_spelling() {
    let (place, texts) = (Place::stock().await, hostile());
    let bridges = [place.bridge().await, place.bridge().await];
    let mut subscribers = Vec::new();
    for text in &texts {
        let seen = Collector::new();
        for bridge in &bridges {
            let subscriber = ServiceAddress::new(text.as_str(), text.as_str(), text.as_str());
            let subscription = Subscription::new(subscriber, Filter::event("happened"));
            bridge.register_subscription(subscription, seen.handler()).await.unwrap();
        }
        subscribers.push(seen);
    }
    for number in 0..10 {
        bridges[0].emit("happened", &number).await.unwrap();
    }
    for (text, seen) in texts.iter().zip(subscribers) {
        seen.at_least(10).await.unwrap();
        assert_eq!(seen.count(), 10, "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_single_levels() {
    let place = Place::stock().await;
    for prefix in ["+", "#", "a/b", "a/+", "..", " ", "none", "\u{85}"] {
        let Ok(bridge) = place.builder().prefix(prefix).build() else { continue };
        bridge.start().await.unwrap_or_else(|error| panic!("{prefix:?}: {error:?}"));
        let mut everything = place.client().await;
        everything.subscribe("#").await;
        let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
        serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
        let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
        bridge.event("happened").timeout(PATIENCE).emit(&greeting).await.unwrap();
        seen.sentinel("\"hello\"").await.unwrap();
        let came = everything.all().await;
        let mut topics = came.iter().map(topic);
        // The command, its answer and the event, and what the service tells of its command.
        assert!(came.len() >= 3, "{prefix:?}");
        // Beside messages, which have 13 levels, there is what bridges ask each other and themselves.
        let is_known = |topic: &str| matches!(topic.split('/').count(), 3 | 13);
        assert!(topics.all(is_known), "{prefix:?}: {came:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_long_names_are_refused() {
    let place = Place::stock().await;
    let bridge = place.bridge().await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    for text in ["", &"x".repeat(256)] {
        let error = emit(&bridge, draft(text)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{error:?}");
        let error = place.builder().instance_id(text).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{error:?}");
        let error = watch(&bridge, text, Filter::any(), in_order()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage, "{error:?}");
    }
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
}

/// Its caller chooses where an answer goes.
#[tokio::test(flavor = "multi_thread")]
async fn callers_with_hostile_names_get_their_answers_and_nobody_else_does() {
    let place = Place::stock().await;
    let (service, mut peer) = (place.bridge().await, place.client().await);
    serve(&service, ("Order", "2", "place"), echo()).await;
    peer.subscribe("#").await;
    let mut names = hostile();
    names.extend([String::new(), "x".repeat(70_000), "/+".repeat(20_000)]);
    let commands = "purista/command/none/none/peer/peer/1/call/none/none/order/2/place";
    for name in &names {
        let sender = json!({
            "serviceName": name, "serviceVersion": name, "serviceTarget": name, "instanceId": name,
        });
        let receiver = json!({ "serviceName": "Order", "serviceVersion": "2", "serviceTarget": "place" });
        let command = json!({
            "messageType": "command", "id": name, "correlationId": name, "tenantId": name, "principalId": name,
            "sender": sender, "receiver": receiver, "payload": { "payload": 1, "parameter": {} },
        });
        peer.publish(commands, command.to_string(), Default::default()).await;
    }
    // Those whose names are empty or too long hear that.
    let answered = || service.stats().executed + service.stats().malformed;
    eventually("each has its answer", || answered() == names.len() as u64).await;
    let caller = place.bridge().await;
    let draft = CommandDraft::new(ServiceAddress::client(), ("Order", "2", "place"));
    invoke(&caller, draft).await.unwrap();
    assert!(service.health().is_healthy(), "{:?}", service.health());
    let came = peer.all().await;
    let answers: Vec<_> = came.iter().map(topic).filter(|topic| topic.contains("_response/")).collect();
    assert_eq!(answers.len(), names.len() + 1);
    assert!(answers.iter().all(|topic| topic.split('/').count() == 13 && topic.starts_with("purista/")));
}
