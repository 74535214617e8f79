//! Three servers that keep streams together, of which leaders die.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream;
use purista_conformance::on_event;
use purista_core::{
    EmitOptions, EventBridge as _, EventDraft, Filter, Health, Id, Payload, ServiceAddress, Subscription,
    SubscriptionOptions,
};
use purista_integration_tests::nats::{NatsCluster, NatsConfig, NatsServer};
use purista_nats::{JetStreamConfig, NatsBridge, NatsBridgeBuilder};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{durable, health_is_within};

/// The limit of one emit: an election takes some seconds, more on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// How long an emit may take to be tried by a server that comes back.
const RESTORED: Duration = Duration::from_secs(60);

struct Clustered {
    cluster: NatsCluster,
    prefix: String,
}

impl Clustered {
    async fn new() -> Self {
        let cluster = NatsCluster::start(3, NatsConfig::jetstream()).await.unwrap();
        Self { cluster, prefix: format!("t{}", Id::random()) }
    }

    fn builder(&self) -> NatsBridgeBuilder {
        let jetstream = JetStreamConfig::default().with_max_bytes(16 << 20).with_replicas(3);
        NatsBridge::builder(self.cluster.urls())
            .prefix(&self.prefix)
            .jetstream(jetstream)
            .operation_timeout(LIMIT)
    }

    async fn bridge(&self) -> NatsBridge {
        let bridge = self.builder().build().unwrap();
        bridge.start().await.unwrap();
        bridge
    }

    /// Returns the server that leads the stream of events.
    async fn stream_leader(&self) -> &NatsServer {
        let deadline = Instant::now() + RESTORED;
        loop {
            let client =
                async_nats::connect(self.cluster.urls().split(',').collect::<Vec<_>>()).await.unwrap();
            let context = jetstream::new(client);
            if let Ok(stream) = context.get_stream(format!("{}-events", self.prefix)).await
                && let Some(leader) = stream.cached_info().cluster.as_ref().and_then(|it| it.leader.clone())
                && let Some(server) = self.cluster.named(&leader)
            {
                return server;
            }
            assert!(Instant::now() < deadline, "no stream leader");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the server that leads the cluster.
    async fn meta_leader(&self) -> &NatsServer {
        let deadline = Instant::now() + RESTORED;
        loop {
            for server in self.cluster.servers() {
                if let Ok(Some(leader)) = server.monitor().meta_leader().await
                    && let Some(leader) = self.cluster.named(&leader)
                {
                    return leader;
                }
            }
            assert!(Instant::now() < deadline, "no meta leader");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn emit(bridge: &NatsBridge, number: usize) {
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    let draft = draft.with_payload(Payload::json(&number).unwrap());
    let began = Instant::now();
    let emitted = bridge.emit_message(draft, &EmitOptions::default().with_timeout(LIMIT)).await;
    if let Err(error) = emitted {
        panic!("{number}: {error:?} after {:?}", began.elapsed());
    }
}

/// Collects numbers, and how often each came.
async fn collect(bridge: &NatsBridge) -> Arc<parking_lot::Mutex<HashSet<usize>>> {
    let seen = Arc::new(parking_lot::Mutex::new(HashSet::new()));
    let numbers = Arc::clone(&seen);
    let handler = on_event(move |context| {
        let number: usize = context.message().payload().unwrap().deserialize().unwrap();
        numbers.lock().insert(number);
        async { Ok(()) }
    });
    let subscription = Subscription::new(("Watcher", "1", "all"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(durable()), handler).await.unwrap();
    seen
}

/// Emits without a pause, from several tasks, until it is told to stop. Returns how many were acknowledged.
async fn load(bridge: &Arc<NatsBridge>, stop: &Arc<AtomicBool>) -> usize {
    const TASKS: usize = 4;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (bridge, stop) = (Arc::clone(bridge), Arc::clone(stop));
            tokio::spawn(async move {
                let mut number = task;
                while !stop.load(Ordering::Relaxed) {
                    emit(&bridge, number).await;
                    number += TASKS;
                }
                number / TASKS
            })
        })
        .collect();
    let mut emitted = 0;
    for task in tasks {
        emitted += task.await.unwrap();
    }
    emitted
}

/// Kills leaders under load. What was acknowledged comes, no emit fails, and the subscription goes on.
async fn leaders_die(rounds: usize) -> String {
    let clustered = Clustered::new().await;
    let emitter = Arc::new(clustered.bridge().await);
    let reader = clustered.bridge().await;
    let seen = collect(&reader).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (bridge, until) = (Arc::clone(&emitter), Arc::clone(&stop));
    let load = tokio::spawn(async move { load(&bridge, &until).await });
    let began = Instant::now();
    for round in 0..rounds {
        let before = seen.lock().len();
        let leader =
            if round % 2 == 0 { clustered.stream_leader().await } else { clustered.meta_leader().await };
        let process = leader.process().unwrap();
        process.kill().await.unwrap();
        // It goes on without the third server.
        let goes_on = async {
            while seen.lock().len() < before + 50 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(RESTORED, goes_on).await.expect("it goes on");
        process.start_again().await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let emitted = load.await.unwrap();
    let all = async {
        while seen.lock().len() < emitted {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let came = timeout(RESTORED, all).await;
    assert!(came.is_ok(), "{} of {emitted} came", seen.lock().len());
    for bridge in [&reader, &*emitter] {
        health_is_within(RESTORED, "healthy", bridge, Health::is_healthy).await;
    }
    format!("{rounds} leaders killed within {:?}: {emitted} emits, none failed, none lost", began.elapsed())
}

/// For a longer run: `PURISTA_LEADER_KILLS=50 cargo test -p purista-nats --test server leaders_die -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_leaders_die() {
    let rounds = std::env::var("PURISTA_LEADER_KILLS").ok().and_then(|rounds| rounds.parse().ok());
    println!("{}", leaders_die(rounds.unwrap_or(2)).await);
}

/// Start and registration wait for a leader; without a majority, health tells that nothing comes.
#[tokio::test(flavor = "multi_thread")]
async fn start_and_registration_wait_for_a_leader() {
    let clustered = Clustered::new().await;
    let reader = clustered.bridge().await;
    collect(&reader).await;
    let leader = clustered.meta_leader().await;
    leader.process().unwrap().kill().await.unwrap();
    // An election has begun.
    let late = clustered.bridge().await;
    let subscription = Subscription::new(("Watcher", "1", "late"), Filter::event("happened"));
    let subscription = subscription.with_options(SubscriptionOptions::default());
    late.register_subscription(subscription, on_event(|_| async { Ok(()) })).await.unwrap();
    emit(&late, 1).await;

    let name = |server: &NatsServer| server.name().map(str::to_owned);
    let other = clustered.cluster.servers().iter().find(|server| name(server) != name(leader)).unwrap();
    other.process().unwrap().kill().await.unwrap();
    let address = ServiceAddress::from(("Watcher", "1", "all"));
    // The server that is left notices after some time.
    health_is_within(RESTORED, "nothing comes without a majority", &reader, |health| {
        !health.connected || health.not_consuming.contains(&address)
    })
    .await;
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    let short = EmitOptions::default().with_timeout(Duration::from_secs(3));
    let error = late.emit_message(draft, &short).await.unwrap_err();
    assert!(error.kind().is_temporary(), "{error:?}");
    for server in [leader, other] {
        let process = server.process().unwrap().clone();
        tokio::spawn(async move { process.start_again().await });
    }
    emit(&late, 2).await;
    health_is_within(RESTORED, "healthy", &reader, Health::is_healthy).await;
}
