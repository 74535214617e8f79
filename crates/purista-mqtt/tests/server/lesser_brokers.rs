//! Brokers that forbid or lack something: the bridge works with less, or says at once what it misses.

use std::{sync::Arc, time::Duration};

use purista_core::{
    Capability, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Subscription, SubscriptionOptions,
};
use purista_integration_tests::mosquitto::MosquittoConfig;
use purista_mqtt::MqttBridge;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
    time::Instant,
};

use crate::support::{PATIENCE, Place, durable, echo, emit_within, in_order, serve, started, watch};

async fn on(lines: &str) -> Place {
    Place::on(MosquittoConfig::stock().with_lines(lines)).await
}

/// A command, an event and its subscription, with many at once.
async fn all_works(bridge: MqttBridge) {
    const MANY: usize = 100;
    let bridge = Arc::new(bridge);
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut work = JoinSet::new();
    for number in 0..MANY {
        let bridge = Arc::clone(&bridge);
        work.spawn(async move {
            emit_within(&bridge, "happened", number, PATIENCE).await.unwrap();
            let answer: usize = bridge.invoke(("Greeter", "1", "greet"), &number).await.unwrap();
            assert_eq!(answer, number);
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    seen.at_least(MANY).await.unwrap();
    assert!(bridge.health().is_healthy(), "{:?}", bridge.health());
    let report = bridge.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn less_is_enough() {
    for lines in [
        "max_inflight_messages 1",
        "max_keepalive 10",
        "retain_available false",
        "max_packet_size 4000",
        "allow_zero_length_clientid false",
        "auto_id_prefix auto-",
        "max_topic_alias 0",
        "persistent_client_expiration 1h",
        "max_qos 1",
    ] {
        let place = on(lines).await;
        let builder = place.builder().keep_alive(Duration::from_secs(60));
        all_works(started(builder).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retained_messages_nothing_is_durable_and_the_rest_works() {
    let place = on("retain_available false").await;
    let bridge = started(place.persistent("node")).await;
    assert!(!bridge.capabilities().has(Capability::DurableSubscriptions));
    assert!(!bridge.capabilities().has(Capability::DeadLetter));
    for (options, capability) in [
        (durable(), Capability::DurableSubscriptions),
        (SubscriptionOptions::default().with_dead_letter(true), Capability::DeadLetter),
    ] {
        let error = watch(&bridge, "refused", Filter::any(), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported(capability), "{error:?}");
    }
    all_works(bridge).await;
}

/// The error names what the broker is configured with, and comes at once.
async fn start_fails(builder: purista_mqtt::MqttBridgeBuilder, kind: ErrorKind, named: &str) {
    let limit = Duration::from_secs(30);
    let bridge = builder.connect_timeout(limit).operation_timeout(limit).build().unwrap();
    let began = Instant::now();
    let error = bridge.start().await.unwrap_err();
    assert!(began.elapsed() < limit / 2, "{:?}: {error:?}", began.elapsed());
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(format!("{error:?}").contains(named), "{named}: {error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_is_named() {
    let place = on("max_qos 0").await;
    start_fails(place.builder(), ErrorKind::Unsupported(Capability::BrokerConfirm), "max_qos").await;
    let place = on("max_packet_size 1000").await;
    start_fails(place.builder(), ErrorKind::TopologyMismatch, "max_packet_size").await;
    // The harness has to get in.
    let place = on("clientid_prefixes purista-harness").await;
    start_fails(place.builder(), ErrorKind::Unauthenticated, "to the client purista-").await;
    let place = on("mount_point tenant/").await;
    let shared = ErrorKind::Unsupported(Capability::SharedSubscriptions);
    start_fails(place.builder(), shared, "mount_point").await;
}

/// Mosquitto closes the connection without an answer, and so does this.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_without_an_answer_names_the_likely_setting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    start_fails(MqttBridge::builder(url), ErrorKind::Unavailable, "max_connections").await;
}

/// All connections of a user have one client id there, so each throws out the one before.
#[tokio::test(flavor = "multi_thread")]
async fn client_ids_that_the_broker_replaces_are_told() {
    let config = MosquittoConfig::stock().with_user("ada", "a").with_lines("use_username_as_clientid true");
    let place = Place::on(config).await;
    let bridge = started(place.builder().user_and_password("ada", "a")).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    let handler = purista_conformance::Collector::new().handler();
    let error = bridge.register_subscription(subscription, handler).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{error:?}");
    assert!(error.to_string().contains("use_username_as_clientid"), "{error}");
    crate::support::eventually("the connection is back", || bridge.health().is_healthy()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}

/// Answers one connection with these bytes, as a broker does which Mosquitto cannot be.
async fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let _connect = client.read(&mut [0; 1_024]).await.unwrap();
        client.write_all(answer).await.unwrap();
        // Until the client goes.
        let _gone = client.read(&mut [0; 1_024]).await;
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_brokers_refuse_is_named() {
    const CONNACK: u8 = 0x20;
    let shared = ErrorKind::Unsupported(Capability::SharedSubscriptions);
    let answers: [(&[u8], ErrorKind, &str); 9] = [
        (&[CONNACK, 5, 0, 0, 2, 0x2a, 0], shared, "shared subscriptions"),
        (&[CONNACK, 5, 0, 0, 2, 0x28, 0], ErrorKind::TopologyMismatch, "wildcards"),
        (&[CONNACK, 5, 0, 0, 2, 0x29, 0], ErrorKind::TopologyMismatch, "subscription identifiers"),
        (&[CONNACK, 8, 0, 0, 5, 0x27, 0, 0, 1, 0], ErrorKind::TopologyMismatch, "256 bytes"),
        (&[CONNACK, 3, 0, 0x85, 0], ErrorKind::InvalidConfig, "ClientIdentifierNotValid"),
        (&[CONNACK, 3, 0, 0x84, 0], ErrorKind::TopologyMismatch, "UnsupportedProtocolVersion"),
        (&[CONNACK, 3, 0, 0x97, 0], ErrorKind::Backpressure, "QuotaExceeded"),
        (&[CONNACK, 3, 0, 0x8a, 0], ErrorKind::Forbidden, "Banned"),
        // Of MQTT 3.1.1.
        (&[CONNACK, 2, 0, 1], ErrorKind::TopologyMismatch, "does not speak MQTT 5"),
    ];
    for (answer, kind, named) in answers {
        start_fails(MqttBridge::builder(answering(answer).await), kind, named).await;
    }
}
