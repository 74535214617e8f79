//! One bad message among many: it fails, and no other one does.

use std::{sync::Arc, time::Duration};

use purista_conformance::{BrokerCertificate, ClientCertificate, on_command, on_event};
use purista_core::{
    CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter,
    HandlerError, InvokeError, Payload, RetryPolicy, ServiceAddress, StatusCode, Subscription,
    SubscriptionOptions,
};
use purista_integration_tests::{Certificates, FaultProxy, mosquitto::MosquittoConfig};
use purista_mqtt::MqttBridge;
use tokio::task::JoinSet;

use crate::support::{
    PATIENCE, Place, echo, emit_within, eventually, in_order, invoke, serve, started, watch,
};

const NEIGHBOURS: usize = 400;

/// Mosquitto tells nobody of this one.
const LIMIT: usize = 4_000;

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn limited() -> MosquittoConfig {
    MosquittoConfig::tuned().with_lines(format!("message_size_limit {LIMIT}"))
}

/// Emits and calls at the same time as something bad. All of them succeed; returns what became of the bad one.
async fn beside<R: Send + 'static>(
    bridge: &Arc<MqttBridge>,
    bad: impl Future<Output = R> + Send + 'static,
) -> R {
    let mut neighbours = JoinSet::new();
    let mut spoilt = None;
    let mut bad = Some(bad);
    for number in 0..NEIGHBOURS {
        if number == NEIGHBOURS / 2 {
            spoilt = bad.take().map(tokio::spawn);
        }
        let bridge = Arc::clone(bridge);
        neighbours.spawn(async move {
            if number % 4 == 0 {
                let answer = bridge.invoke::<usize>(("Greeter", "1", "greet"), &number).await;
                assert_eq!(answer.unwrap_or_else(|error| panic!("{number}: {error:?}")), number);
            } else {
                let emitted = emit_within(&bridge, "happened", number, PATIENCE).await;
                emitted.unwrap_or_else(|error| panic!("{number}: {error:?}"));
            }
        });
    }
    while let Some(neighbour) = neighbours.join_next().await {
        neighbour.unwrap();
    }
    spoilt.unwrap().await.unwrap()
}

async fn greeter(builder: purista_mqtt::MqttBridgeBuilder) -> Arc<MqttBridge> {
    let bridge = started(builder).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    Arc::new(bridge)
}

fn is_too_large(kind: Option<ErrorKind>) -> bool {
    matches!(kind, Some(ErrorKind::PayloadTooLarge { .. }))
}

async fn what_is_too_large_fails_alone(url: &str, proxy: &FaultProxy, builder: impl Fn(&str) -> MqttBridge) {
    let bridge = Arc::new(builder(url));
    bridge.start().await.unwrap();
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    serve(
        &bridge,
        ("Greeter", "1", "talk"),
        on_command(|_| async { Ok(Some(Payload::json(&text(2 * LIMIT))?)) }),
    )
    .await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let before = proxy.connection_attempts();

    let emitter = Arc::clone(&bridge);
    let event = async move { emitter.event("happened").timeout(PATIENCE).emit(&text(2 * LIMIT)).await };
    let error = beside(&bridge, event).await.unwrap_err();
    assert!(is_too_large(Some(error.kind())), "{error:?}");

    let caller = Arc::clone(&bridge);
    let draft = CommandDraft::new(ServiceAddress::client(), ("Greeter", "1", "greet"))
        .with_payload(Payload::json(&text(2 * LIMIT)).unwrap());
    let command = async move { invoke(&caller, draft).await };
    let error = beside(&bridge, command).await.unwrap_err();
    assert!(is_too_large(error.bridge_kind()), "{error:?}");

    let caller = Arc::clone(&bridge);
    let draft = CommandDraft::new(ServiceAddress::client(), ("Greeter", "1", "talk"));
    let answer = async move { invoke(&caller, draft).await };
    let answer = beside(&bridge, answer).await;
    assert!(matches!(answer, Err(InvokeError::Unhandled(StatusCode::PAYLOAD_TOO_LARGE))), "{answer:?}");

    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert_eq!(seen.count(), 3 * NEIGHBOURS / 4 * 3 + 1);
    assert_eq!(proxy.connection_attempts(), before, "a connection was lost");
}

/// Mosquitto refuses it by a reason that MQTT does not have there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_broker_fails_alone() {
    let place = Place::on(limited()).await;
    let proxy = FaultProxy::start(place.server.address()).unwrap();
    let url = place.server.url_through(&proxy);
    what_is_too_large_fails_alone(&url, &proxy, |url| MqttBridge::builder(url).build().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_broker_fails_alone_when_the_connection_is_encrypted() {
    let certificates = Certificates::create(BrokerCertificate::Trusted, ClientCertificate::NotAsked).unwrap();
    let place = Place::on(limited().with_tls(&certificates)).await;
    let proxy = FaultProxy::start(place.server.address()).unwrap();
    let url = place.server.url_through(&proxy).replace("127.0.0.1", "localhost");
    let build =
        |url: &str| MqttBridge::builder(url).root_certificates(certificates.authority()).build().unwrap();
    what_is_too_large_fails_alone(&url, &proxy, build).await;
}

/// Over WebSocket the connection is lost some times, and what else was under way is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn over_websocket_what_is_too_large_costs_few_connections() {
    let place = Place::on(limited().with_websockets()).await;
    let Some(url) = place.server.websocket_url() else { panic!("this Mosquitto has no WebSockets") };
    let broker: std::net::SocketAddr = url.split('/').nth(2).unwrap().parse().unwrap();
    let proxy = FaultProxy::start(broker).unwrap();
    let url = url.replace(&broker.to_string(), &proxy.address().to_string());
    let bridge = Arc::new(started(MqttBridge::builder(url)).await);
    let before = proxy.connection_attempts();
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut emits = JoinSet::new();
    for number in 0..NEIGHBOURS {
        let bridge = Arc::clone(&bridge);
        emits.spawn(async move { emit_within(&bridge, "happened", number, 3 * PATIENCE).await });
    }
    let draft = EventDraft::event(ServiceAddress::client(), "happened")
        .with_payload(Payload::json(&text(2 * LIMIT)).unwrap());
    let patient = EmitOptions::default().with_timeout(2 * PATIENCE);
    let error = bridge.emit_message(draft, &patient).await.unwrap_err();
    assert!(is_too_large(Some(error.kind())), "{error:?}");
    while let Some(emitted) = emits.join_next().await {
        emitted.unwrap().unwrap();
    }
    // What is taken shows that the last loss was noticed.
    bridge.event("happened").timeout(PATIENCE).emit("between").await.unwrap();
    let attempts = proxy.connection_attempts() - before;
    assert!((2..=5).contains(&attempts), "{attempts} connections");
    // It is remembered.
    let error = bridge.event("happened").timeout(PATIENCE).emit(&text(3 * LIMIT)).await.unwrap_err();
    assert!(is_too_large(Some(error.kind())), "{error:?}");
    assert_eq!(proxy.connection_attempts() - before, attempts);
    eventually("it is healthy", || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert!(seen.count() >= NEIGHBOURS + 2, "{}", seen.count());
}

/// A message that the broker takes can have a dead letter that it does not take.
#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_is_too_long_for_the_broker_is_left_out_of_a_dead_letter() {
    let place = Place::on(MosquittoConfig::tuned().with_lines(format!("max_packet_size {LIMIT}"))).await;
    let bridge = place.bridge().await;
    let handler = on_event(|_| async { Err(HandlerError::unhandled("\u{1}".repeat(1_000))) });
    let options = SubscriptionOptions::default().with_retry(RetryPolicy::NEVER).with_dead_letter(true);
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&text(1_900)).await.unwrap();
    eventually("a dead letter", || bridge.stats().dead_lettered == 1).await;
    assert!(bridge.health().is_healthy());
}

const DENIED: &str =
    "user ada\ntopic readwrite purista/#\ntopic deny purista/custom_message/+/+/+/+/+/+/secret/#\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_fails_alone() {
    for config in [MosquittoConfig::stock(), MosquittoConfig::tuned()] {
        let place = Place::on(config.with_user("ada", "pass").with_acl(DENIED)).await;
        let bridge = greeter(place.builder().user_and_password("ada", "pass")).await;
        let mut events = bridge.events();
        let emitter = Arc::clone(&bridge);
        let event = async move {
            let draft = EventDraft::event(ServiceAddress::client(), "secret");
            emitter.emit_message(draft, &EmitOptions::default()).await
        };
        let error = beside(&bridge, event).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
        bridge.shutdown(Duration::from_secs(1)).await;
        assert_eq!(events.next().await, Some(purista_core::BridgeEvent::Draining), "the connection was lost");
    }
}
