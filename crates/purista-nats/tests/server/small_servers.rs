//! Servers and accounts that give less than a bridge uses by default.

use std::time::Duration;

use purista_core::{
    BridgeEvent, Capability, Error, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter,
    SubscriptionOptions,
};
use purista_integration_tests::nats::NatsConfig;
use purista_nats::{JetStreamConfig, NatsBridgeBuilder};
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, durable, echo, reaches, serve, started, watch, within};

const MIB: u64 = 1 << 20;

/// A server whose store has its own limit.
fn store(mib: u64) -> NatsConfig {
    let users = "authorization { users: [ { user: ada, password: p } ] }";
    NatsConfig::jetstream().with_jetstream(format!("max_file_store: {}", mib * MIB)).with_lines(users)
}

/// One account with limits.
fn account(limits: &str) -> NatsConfig {
    NatsConfig::jetstream().with_lines(format!(
        "accounts {{ A {{ jetstream: {{ {limits} }}, users: [ {{ user: ada, password: p }} ] }} }}"
    ))
}

fn by_default(place: &Place) -> NatsBridgeBuilder {
    place.builder().jetstream(JetStreamConfig::default()).user_and_password("ada", "p")
}

async fn is_refused(builder: NatsBridgeBuilder, kind: ErrorKind, named: &str) -> Error {
    let began = Instant::now();
    let refused = builder.build().unwrap().start().await.unwrap_err();
    assert_eq!(refused.kind(), kind, "{refused:?}");
    assert!(refused.to_string().contains(named), "{named}: {refused}");
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_store_gets_smaller_streams() {
    for config in [store(64), account("max_file: 64MB")] {
        let place = Place::own(config).await;
        let bridge = started(by_default(&place)).await;
        let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
        bridge.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
        reaches(1, || seen.count()).await;
        let stream = place.stream("events");
        let context = async_nats::jetstream::new(
            async_nats::ConnectOptions::with_user_and_password("ada".into(), "p".into())
                .connect(place.server.url())
                .await
                .unwrap(),
        );
        let max_bytes = context.get_stream(stream).await.unwrap().cached_info().config.max_bytes;
        assert!((1 << 20..=64 << 20).contains(&max_bytes), "{max_bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_smaller_than_was_asked_for_is_named() {
    let place = Place::own(store(64)).await;
    let large = JetStreamConfig::default().with_max_bytes(128 * MIB);
    is_refused(by_default(&place).jetstream(large), ErrorKind::InvalidConfig, "max_bytes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_the_account_are_named() {
    let place = Place::own(account("max_streams: 1")).await;
    let _first = started(by_default(&place).prefix("taken")).await;
    is_refused(by_default(&place), ErrorKind::Forbidden, "max_streams").await;

    let place = Place::own(account("max_consumers: 1")).await;
    let bridge = started(by_default(&place)).await;
    watch(&bridge, "one", Filter::event("happened"), durable()).await.unwrap();
    let refused = watch(&bridge, "two", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    assert!(refused.to_string().contains("max_consumers"), "{refused}");
    assert!(bridge.health().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_servers_are_named() {
    let place = Place::own(store(64)).await;
    let replicated = JetStreamConfig::default().with_replicas(3).with_max_bytes(4 * MIB);
    is_refused(by_default(&place).jetstream(replicated), ErrorKind::InvalidConfig, "replicas").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_subscriptions_are_named_and_the_rest_goes_on() {
    let lines = "max_subscriptions: 12";
    let place = Place::own(NatsConfig::core().with_lines(lines)).await;
    let bridge = started(place.builder()).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let mut refused = None;
    for number in 0..12 {
        let name = format!("all{number}");
        let watched = watch(&bridge, &name, Filter::event("happened"), SubscriptionOptions::default()).await;
        if let Err(error) = watched {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("a subscription is refused");
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    assert!(refused.to_string().contains("max_subscriptions"), "{refused}");
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    assert!(bridge.health().is_healthy(), "{:?}", bridge.health());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_for_a_connection_is_named() {
    let place = Place::own(NatsConfig::core().with_lines("max_connections: 1")).await;
    let _first = started(place.builder()).await;
    let refused = place.builder().build().unwrap().start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(refused.to_string().contains("max_connections"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_headers_is_named() {
    let place = Place::own(NatsConfig::core().with_lines("no_header_support: true")).await;
    let kind = ErrorKind::Unsupported(Capability::NoResponder);
    is_refused(place.builder(), kind, "no_header_support").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_payloads_are_refused_by_size() {
    let place = Place::own(NatsConfig::jetstream().with_lines("max_payload: 8KB")).await;
    let bridge = started(place.builder()).await;
    let most = bridge.capabilities().max_payload();
    assert!(most < 8 << 10, "{most}");
    let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit("x").await.unwrap();
    let refused =
        bridge.event("happened").timeout(PATIENCE).emit("x".repeat(9 << 10).as_str()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::PayloadTooLarge { .. }), "{refused:?}");
    bridge.event("happened").timeout(PATIENCE).emit("y").await.unwrap();
    reaches(2, || seen.count()).await;
    assert!(bridge.health().is_healthy());
}

/// The longest subjects are refused to who registers, and the connection of the others goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_control_line_is_named() {
    let place = Place::own(NatsConfig::core().with_lines("max_control_line: 512")).await;
    let bridge = started(place.builder().without_jetstream()).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let long = "n".repeat(200);
    let filter = Filter::event("happened").with_sender((long.as_str(), long.as_str(), long.as_str()));
    let mut events = bridge.events();
    let refused = watch(&bridge, "all", filter, SubscriptionOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    assert!(refused.to_string().contains("max_control_line"), "{refused}");
    // The server ends the connection with it.
    let is_back = async { while events.next().await.unwrap() != BridgeEvent::Connected {} };
    within("the connection is back", is_back).await;
    crate::support::is_well(&bridge).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}

/// One that bounds what may wait for an acknowledgement does not keep a subscription from its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_unacknowledged_messages_is_met() {
    for config in [
        NatsConfig::jetstream().with_jetstream("limits: { max_ack_pending: 10 }"),
        NatsConfig::jetstream().with_lines(
            "accounts { A { jetstream: { max_ack_pending: 10 }, users: [ { user: ada, password: p } ] } }",
        ),
    ] {
        let place = Place::own(config).await;
        let bridge = started(by_default(&place)).await;
        let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
        for number in 0..20 {
            bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        }
        reaches(20, || seen.count()).await;
    }
}
