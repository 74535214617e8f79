//! Streams that are there before the bridge.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use purista_core::{
    Capability, CommandDraft, Error, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, InvokeOptions,
    MessageType, ServiceAddress, SubscriptionOptions,
};

use crate::support::{PATIENCE, Place, echo, invoke, serve, watch};

async fn create(place: &Place, stream: Config) {
    place.jetstream().await.create_stream(stream).await.unwrap();
}

/// A stream of somebody else.
fn foreign(place: &Place, name: &str, subject: &str) -> Config {
    Config { name: place.stream(name), subjects: vec![place.here(subject)], ..Config::default() }
}

/// The stream of events as a bridge creates it, but for what is changed.
fn events(place: &Place) -> Config {
    Config {
        retention: RetentionPolicy::Interest,
        discard: DiscardPolicy::New,
        ..foreign(place, "events", "purista.custom_message.>")
    }
}

async fn start_is_refused(place: &Place, named: &str) -> Error {
    let bridge = place.builder().build().unwrap();
    let error = bridge.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{error:?}");
    assert!(error.to_string().contains(&place.stream(named)), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream_that_would_answer_commands_is_refused() {
    for captured in ["purista.command.>", "purista.command.*.*.*.*.*.*.*.*.user.1.sign_up"] {
        let place = Place::shared(true).await;
        create(&place, foreign(&place, "audit", captured)).await;
        let error = start_is_refused(&place, "audit").await;
        assert!(error.to_string().contains("no_ack"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream_that_only_records_commands_hides_that_nobody_serves_them() {
    let place = Place::shared(true).await;
    assert!(place.bridge().await.capabilities().has(Capability::NoResponder));
    create(&place, Config { no_ack: true, ..foreign(&place, "audit", "purista.command.>") }).await;
    let bridge = place.bridge().await;
    assert!(!bridge.capabilities().has(Capability::NoResponder));
    serve(&bridge, ("User", "1", "signUp"), echo()).await;
    let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "signUp"));
    let response = invoke(&bridge, draft).await.unwrap();
    assert_eq!(response.message_type(), MessageType::CommandSuccessResponse);

    let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", "signOff"));
    let options = InvokeOptions::default().with_timeout(Duration::from_millis(200));
    let error = bridge.invoke_command(draft, &options).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::Timeout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_keeps_otherwise_is_refused() {
    for (what, differs) in [
        ("retention", Config { retention: RetentionPolicy::Limits, ..Config::default() }),
        ("discard", Config { discard: DiscardPolicy::Old, ..Config::default() }),
        ("no_ack", Config { no_ack: true, ..Config::default() }),
    ] {
        let place = Place::shared(true).await;
        let mut stream = events(&place);
        match what {
            "retention" => stream.retention = differs.retention,
            "discard" => stream.discard = differs.discard,
            _ => stream.no_ack = differs.no_ack,
        }
        create(&place, stream).await;
        let error = start_is_refused(&place, "events").await;
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_some_of_the_subjects_is_refused() {
    let place = Place::shared(true).await;
    create(&place, foreign(&place, "audit", "purista.custom_message.>")).await;
    start_is_refused(&place, "events").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_limits_is_adopted_and_left_as_it_is() {
    let place = Place::shared(true).await;
    let limits =
        Config { max_messages: 77, max_bytes: 32 << 20, max_age: Duration::from_secs(99), ..events(&place) };
    create(&place, limits).await;
    works(&place).await;
    let context = place.jetstream().await;
    let found = context.get_stream(place.stream("events")).await.unwrap().cached_info().config.clone();
    assert_eq!((found.max_messages, found.max_bytes), (77, 32 << 20));
    assert_eq!(found.max_age, Duration::from_secs(99));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_fewer_subjects_is_extended() {
    let place = Place::shared(true).await;
    let narrow = foreign(&place, "events", "purista.info_service_ready.>");
    create(&place, Config { subjects: narrow.subjects, ..events(&place) }).await;
    works(&place).await;
    let context = place.jetstream().await;
    let found = context.get_stream(place.stream("events")).await.unwrap().cached_info().config.clone();
    for subject in
        ["purista.custom_message.>", "purista.info_service_ready.>", "purista.info_invoke_timeout.>"]
    {
        assert!(found.subjects.contains(&place.here(subject)), "{subject}: {:?}", found.subjects);
    }
}

async fn works(place: &Place) {
    let bridge = place.bridge().await;
    let seen =
        watch(&bridge, "all", Filter::event("happened"), SubscriptionOptions::default()).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit("once").await.unwrap();
    seen.sentinel("\"once\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_foreign_stream_is_looked_at() {
    let place = Place::shared(true).await;
    let context = place.jetstream().await;
    for (name, no_ack) in [("a", true), ("b", false)] {
        let subjects = vec![place.here(&format!("purista.command.{name}.>"))];
        let stream = Config { name: place.stream(name), subjects, no_ack, ..Config::default() };
        context.create_stream(stream).await.unwrap();
    }
    let error = place.builder().build().unwrap().start().await.expect_err("a stream answers commands");
    assert_eq!(error.kind(), ErrorKind::TopologyMismatch, "{error:?}");
}
