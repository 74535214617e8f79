//! Three servers that are one broker, of which the one that leads a queue dies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_conformance::{Ledger, on_event};
use purista_core::{
    CommandOptions, EmitOptions, EventBridge as _, EventBridgeExt as _, EventDraft, Filter, Payload,
    ServiceAddress, Subscription, SubscriptionOptions,
};
use purista_integration_tests::rabbitmq::{RabbitCluster, RabbitConfig};
use tokio::time::{Instant, interval, timeout};

use crate::support::{echo, serve_with, started};

const QUEUE: &str = "purista.subscription.Watcher-1-reader";

const OFTEN: Duration = Duration::from_millis(500);

/// How long all may take to come back.
const RECOVERY: Duration = Duration::from_secs(30);

/// Emits numbers until it is told to stop.
async fn emit_numbers(
    bridge: Arc<AmqpBridge>,
    ledger: Arc<Ledger>,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    let options = EmitOptions::default().with_timeout(Duration::from_secs(20));
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        ledger.unknown(number);
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        let draft = draft.with_payload(Payload::json(&number).unwrap());
        if bridge.emit_message(draft, &options).await.is_ok() {
            ledger.ok(number);
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let (began, mut poll) = (Instant::now(), interval(Duration::from_millis(50)));
    let done = async {
        while !holds().await {
            poll.tick().await;
        }
    };
    timeout(RECOVERY, done).await.unwrap_or_else(|_| panic!("not within {RECOVERY:?}: {what}"));
    began.elapsed()
}

async fn leaders_die(cycles: usize) {
    let cluster = RabbitCluster::start(3, RabbitConfig::default()).await.unwrap();
    let builder = |first: usize| -> AmqpBridgeBuilder {
        let urls: Vec<_> =
            (0..3).map(|number| cluster.servers()[(first + number) % 3].url().to_owned()).collect();
        AmqpBridge::builder(urls.join(",")).check_interval(OFTEN)
    };
    let (ledger, next, stop) =
        (Arc::new(Ledger::default()), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut bridges = Vec::new();
    for number in 0..3 {
        let bridge = Arc::new(started(builder(number)).await);
        let log = Arc::clone(&ledger);
        let handler = on_event(move |context| {
            let log = Arc::clone(&log);
            async move {
                log.handled(context.message().payload().unwrap().deserialize()?);
                Ok(())
            }
        });
        let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
        let options = SubscriptionOptions::default().with_durable(true).with_dead_letter(true);
        bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
        // Only what is replicated outlives a node: commands are when they are durable.
        let options = CommandOptions::default().with_durable(true);
        serve_with(&bridge, ("User", "1", "echo"), options, echo()).await;
        bridges.push(bridge);
    }
    let emitting: Vec<_> = bridges
        .iter()
        .map(|bridge| {
            tokio::spawn(emit_numbers(
                Arc::clone(bridge),
                Arc::clone(&ledger),
                Arc::clone(&next),
                Arc::clone(&stop),
            ))
        })
        .collect();
    for cycle in 1..=cycles {
        let before = ledger.handled_count();
        until("events flow", async || ledger.handled_count() >= before + 50).await;
        let leader = cluster.leader_of("/", QUEUE).await.unwrap();
        leader.process().unwrap().kill().await.unwrap();
        let back = until("all bridges are healthy, and take calls", async || {
            for bridge in &bridges {
                if !bridge.health().is_healthy() {
                    return false;
                }
            }
            bridges[cycle % 3].invoke::<u8>(("User", "1", "echo"), &7).await.is_ok()
        })
        .await;
        let before = ledger.handled_count();
        let flow = until("events flow", async || ledger.handled_count() >= before + 100).await;
        println!(
            "cycle {cycle}: healthy after {back:?}, events {flow:?} later; {} handled",
            ledger.handled_count()
        );
        leader.process().unwrap().start_again().await.unwrap();
    }
    // Without a majority nobody leads the queue: nothing is consumed, and that is told.
    let leader = Arc::clone(cluster.leader_of("/", QUEUE).await.unwrap());
    let mut others = cluster.servers().iter().filter(|server| server.url() != leader.url());
    let gone = [Arc::clone(&leader), Arc::clone(others.next().unwrap())];
    for server in &gone {
        server.process().unwrap().kill().await.unwrap();
    }
    for bridge in &bridges {
        until("all bridges are unhealthy", async || !bridge.health().is_healthy()).await;
    }
    let (mut poll, told) = (interval(OFTEN / 10), Instant::now());
    while told.elapsed() < 20 * OFTEN {
        poll.tick().await;
        for bridge in &bridges {
            assert!(!bridge.health().is_healthy(), "{:?}", bridge.health());
        }
    }
    for server in &gone {
        server.process().unwrap().start_again().await.unwrap();
    }
    for bridge in &bridges {
        until("all bridges are healthy", async || bridge.health().is_healthy()).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in emitting {
        task.await.unwrap();
    }
    // Each consumer that was tried without a majority counts as a delivery once there is one again: a message that was under
    // way may be a dead letter before anybody has handled it (README of the crate).
    let dead_lettered = || bridges.iter().map(|bridge| bridge.stats().dead_lettered).sum::<u64>();
    until("what was acknowledged has come, or is a dead letter", async || {
        let balance = ledger.balance();
        balance.lost.len() as u64 <= dead_lettered() && balance.phantom.is_empty()
    })
    .await;
    let (balance, dead) = (ledger.balance(), dead_lettered());
    let (handled, twice) = (ledger.handled_count(), balance.duplicated.len());
    println!("{handled} handled, {twice} more than once, {dead} dead letters");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_leader_of_a_queue_dies() {
    leaders_die(1).await;
}
