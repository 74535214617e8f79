//! Instances of one subscriber that are configured differently, as in a rolling deployment.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{consumer, stream};
use futures_util::TryStreamExt as _;
use purista_conformance::Collector;
use purista_core::{EventBridge as _, EventBridgeExt as _, Filter, SubscriptionOptions};
use purista_nats::{JetStreamConfig, NatsBridge};

use crate::support::{PATIENCE, Place, durable, reaches, started, watch};

const MIB: u64 = 1 << 20;

async fn bridge(place: &Place, config: JetStreamConfig) -> NatsBridge {
    started(place.builder().jetstream(config)).await
}

async fn stream_of(place: &Place) -> stream::Stream {
    place.jetstream().await.get_stream(place.stream("events")).await.unwrap()
}

async fn consumer_of(place: &Place) -> Option<consumer::Config> {
    let consumers: Vec<_> = stream_of(place).await.consumers().try_collect().await.unwrap();
    consumers.into_iter().next().map(|info| info.config)
}

async fn subscribe(bridge: &NatsBridge, options: SubscriptionOptions) -> Arc<Collector> {
    watch(bridge, "all", Filter::event("happened"), options).await.unwrap()
}

fn base() -> JetStreamConfig {
    JetStreamConfig::default().with_max_bytes(4 * MIB)
}

/// Whoever waits less extends more often; the other way round, messages would be delivered twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_ack_wait_holds_while_others_run() {
    let place = Place::shared(true).await;
    let wait = |seconds| base().with_ack_wait(Duration::from_secs(seconds));
    let long = bridge(&place, wait(20)).await;
    subscribe(&long, durable()).await;
    let short = bridge(&place, wait(1)).await;
    let seen = subscribe(&short, durable()).await;
    assert_eq!(consumer_of(&place).await.unwrap().ack_wait, Duration::from_secs(20));
    long.shutdown(PATIENCE).await;
    short.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    reaches(1, || seen.count()).await;
    short.shutdown(PATIENCE).await;
    // Nobody counts on it any more.
    let alone = bridge(&place, wait(1)).await;
    subscribe(&alone, durable()).await;
    assert_eq!(consumer_of(&place).await.unwrap().ack_wait, Duration::from_secs(1));
    let longer = bridge(&place, wait(3)).await;
    subscribe(&longer, durable()).await;
    assert_eq!(consumer_of(&place).await.unwrap().ack_wait, Duration::from_secs(3));
}

/// A transient instance neither makes the subscriber transient nor removes its consumer when it leaves.
#[tokio::test(flavor = "multi_thread")]
async fn durable_holds_while_others_run() {
    for durable_first in [true, false] {
        let place = Place::shared(true).await;
        let options = |is_durable| SubscriptionOptions::default().with_durable(is_durable);
        let first = bridge(&place, base()).await;
        subscribe(&first, options(durable_first)).await;
        let second = bridge(&place, base()).await;
        subscribe(&second, options(!durable_first)).await;
        assert_eq!(consumer_of(&place).await.unwrap().inactive_threshold, Duration::ZERO);
        let (kept, transient) = if durable_first { (first, second) } else { (second, first) };
        kept.shutdown(PATIENCE).await;
        transient.shutdown(PATIENCE).await;
        let emitter = bridge(&place, base()).await;
        emitter.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
        let back = bridge(&place, base()).await;
        let seen = subscribe(&back, durable()).await;
        reaches(1, || seen.count()).await;
    }
}

/// Each setting of a stream: what it is, what the next instance asks for, and what it is then.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_streams_are_raised_and_never_lowered() {
    type Read = fn(&stream::Config) -> u64;
    let second = Duration::from_secs;
    let table: [(&str, Read, [JetStreamConfig; 2]); 5] = [
        (
            "max_bytes",
            |config| u64::try_from(config.max_bytes).unwrap(),
            [base().with_max_bytes(2 * MIB), base().with_max_bytes(3 * MIB)],
        ),
        (
            "max_messages",
            |config| u64::try_from(config.max_messages).unwrap(),
            [base().with_max_messages(100), base().with_max_messages(200)],
        ),
        (
            "max_messages_per_subject",
            |config| u64::try_from(config.max_messages_per_subject).unwrap(),
            [base().with_max_messages_per_subject(10), base().with_max_messages_per_subject(20)],
        ),
        (
            "max_age",
            |config| config.max_age.as_secs(),
            [base().with_max_age(second(600)), base().with_max_age(second(900))],
        ),
        (
            "duplicate_window",
            |config| config.duplicate_window.as_secs(),
            [base().with_duplicate_window(second(60)), base().with_duplicate_window(second(90))],
        ),
    ];
    for (name, read, [less, more]) in table {
        let place = Place::shared(true).await;
        let now = async || read(&stream_of(&place).await.cached_info().config);
        let _first = bridge(&place, less.clone()).await;
        let tight = now().await;
        let _second = bridge(&place, more.clone()).await;
        let raised = now().await;
        assert!(raised > tight, "{name}: {tight}, then {raised}");
        let _third = bridge(&place, less).await;
        assert_eq!(now().await, raised, "{name} is lowered");
        // Who asks for nothing takes what there is.
        let _fourth = bridge(&place, JetStreamConfig::default()).await;
        assert_eq!(now().await, raised, "{name} is changed");
    }
}
