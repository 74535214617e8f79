//! Ways in which a subscription stops to consume while its bridge stays connected.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    consumer::{FromConsumer as _, pull},
    stream::{Config, DiscardPolicy, RetentionPolicy},
};
use purista_conformance::Collector;
use purista_core::{BridgeEvent, BridgeEvents, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::nats::NatsConfig;
use purista_nats::NatsBridge;
use tokio::time::{Instant, sleep};

use crate::support::{BOUND, PATIENCE, Place, durable, eventually, is_well, names, reaches, watch, within};

const CONSUMER: (&str, &str, &str) = ("Watcher", "1", "all");

struct Stopped {
    place: Place,
    bridge: NatsBridge,
    seen: Arc<Collector>,
}

impl Stopped {
    async fn begin() -> Self {
        let place = Place::own(NatsConfig::jetstream()).await;
        let bridge = place.bridge().await;
        let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
        let stopped = Self { place, bridge, seen };
        stopped.consumes(0).await;
        stopped
    }

    async fn consumes(&self, number: usize) {
        self.bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        let text = number.to_string();
        eventually("it consumes", || self.seen.payloads().contains(&text)).await;
    }

    async fn stream(&self) -> async_nats::jetstream::stream::Stream {
        self.place.jetstream().await.get_stream(self.place.stream("events")).await.unwrap()
    }

    /// The consumer's name and configuration, as the bridge made it.
    async fn consumer(&self) -> (String, pull::Config) {
        use futures_util::TryStreamExt as _;
        let stream = self.stream().await;
        let mut consumers: Vec<_> = stream.consumers().try_collect().await.unwrap();
        let info = consumers.pop().unwrap();
        (info.name, pull::Config::try_from_consumer_config(info.config).unwrap())
    }
}

/// Waits for the word that the consumer is lost: it may be back before anybody looks at the health.
async fn is_told(events: &mut BridgeEvents) {
    let told = BridgeEvent::ConsumerDown(CONSUMER.into());
    within("the loss is told", async { while events.next().await.unwrap() != told {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_deleted_comes_back() {
    let stopped = Stopped::begin().await;
    let (name, _) = stopped.consumer().await;
    let mut events = stopped.bridge.events();
    stopped.stream().await.delete_consumer(&name).await.unwrap();
    is_told(&mut events).await;
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_comes_back() {
    let stopped = Stopped::begin().await;
    let mut events = stopped.bridge.events();
    stopped.place.jetstream().await.delete_stream(stopped.place.stream("events")).await.unwrap();
    is_told(&mut events).await;
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_paused_shows_and_comes_back() {
    let stopped = Stopped::begin().await;
    let (name, _) = stopped.consumer().await;
    let pause = async |request: &'static str| {
        let subject = format!("$JS.API.CONSUMER.PAUSE.{}.{name}", stopped.place.stream("events"));
        let answer = stopped.place.client().await.request(subject, request.into()).await.unwrap();
        assert!(answer.payload.windows(6).any(|part| part == b"paused"), "{answer:?}");
    };
    pause("{\"pause_until\":\"2099-01-01T00:00:00Z\"}").await;
    names(&stopped.bridge, CONSUMER).await;
    pause("{}").await;
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;
}

/// Somebody deletes the stream and creates another one of the same name, which keeps otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_kind_shows_until_it_is_right_again() {
    let stopped = Stopped::begin().await;
    let context = stopped.place.jetstream().await;
    let name = stopped.place.stream("events");
    let right = stopped.stream().await.cached_info().config.clone();
    context.delete_stream(&name).await.unwrap();
    // The bridge may be faster: then this one is deleted once more.
    let wrong = Config { retention: RetentionPolicy::Limits, ..right.clone() };
    while context.create_stream(wrong.clone()).await.is_err() {
        let _may_be_gone = context.delete_stream(&name).await;
    }
    names(&stopped.bridge, CONSUMER).await;
    assert!(!stopped.bridge.health().is_healthy());
    context.delete_stream(&name).await.unwrap();
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_stream_shows() {
    let stopped = Stopped::begin().await;
    let context = stopped.place.jetstream().await;
    let config = stopped.stream().await.cached_info().config.clone();
    let sealed = Config { sealed: true, discard: DiscardPolicy::New, ..config };
    context.update_stream(sealed).await.unwrap();
    names(&stopped.bridge, CONSUMER).await;
    context.delete_stream(stopped.place.stream("events")).await.unwrap();
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_lost_its_subjects_gets_them_back() {
    let stopped = Stopped::begin().await;
    let context = stopped.place.jetstream().await;
    let mut config = stopped.stream().await.cached_info().config.clone();
    config.subjects = vec![format!("{}.nothing", stopped.place.prefix)];
    context.update_stream(config).await.unwrap();
    stopped.consumes(1).await;
    is_well(&stopped.bridge).await;
}

/// The filter, or anything else, is changed under a bridge that runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_changed_is_told_or_set_right() {
    let stopped = Stopped::begin().await;
    let (_, config) = stopped.consumer().await;
    let mut other = config.clone();
    other.filter_subject = format!("{}.custom_message.>", stopped.place.prefix);
    stopped.stream().await.update_consumer(other).await.unwrap();
    names(&stopped.bridge, CONSUMER).await;
    stopped.stream().await.update_consumer(config.clone()).await.unwrap();
    is_well(&stopped.bridge).await;
    stopped.consumes(1).await;

    let short = pull::Config { ack_wait: Duration::from_secs(1), max_deliver: 3, ..config };
    stopped.stream().await.update_consumer(short).await.unwrap();
    let deadline = Instant::now() + BOUND;
    loop {
        let (_, config) = stopped.consumer().await;
        if config.ack_wait >= Duration::from_secs(10) && config.max_deliver == -1 {
            break;
        }
        assert!(Instant::now() < deadline, "it was not set right: {config:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// JetStream is taken away from the account, and given back.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_jetstream_shows_until_it_is_back() {
    let with = |jetstream: &str| {
        let users = "users: [ { user: ada, password: p } ]";
        NatsConfig::jetstream().with_lines(format!("accounts {{ A {{ {jetstream} {users} }} }}"))
    };
    let place = Place::own(with("jetstream: enabled,")).await;
    let bridge = crate::support::started(place.builder().user_and_password("ada", "p")).await;
    let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&0).await.unwrap();
    reaches(1, || seen.count()).await;
    place.server.reload(&with("")).await.unwrap();
    names(&bridge, CONSUMER).await;
    place.server.reload(&with("jetstream: enabled,")).await.unwrap();
    is_well(&bridge).await;
    bridge.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    reaches(2, || seen.count()).await;
}

/// More wait than the consumer lets wait.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_who_ask_show() {
    let stopped = Stopped::begin().await;
    let (name, config) = stopped.consumer().await;
    stopped.stream().await.delete_consumer(&name).await.unwrap();
    let narrow = pull::Config { max_waiting: 1, ..config };
    while stopped.stream().await.create_consumer_strict(narrow.clone()).await.is_err() {
        let _may_be_gone = stopped.stream().await.delete_consumer(&name).await;
    }
    // Somebody else asks as well, and one of the two is refused, again and again.
    let second = stopped.place.bridge().await;
    watch(&second, "all", Filter::event("happened"), durable()).await.unwrap();
    let deadline = Instant::now() + BOUND;
    let is_told = |bridge: &NatsBridge| bridge.health().not_consuming.contains(&CONSUMER.into());
    while !is_told(&stopped.bridge) && !is_told(&second) {
        assert!(Instant::now() < deadline, "neither tells");
        sleep(Duration::from_millis(20)).await;
    }
}
