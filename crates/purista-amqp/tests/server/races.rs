//! Instances that begin at the same time.

use std::sync::Arc;

use futures_util::future::join_all;
use purista_core::{ErrorKind, EventBridge as _, EventBridgeExt as _, Filter};

use crate::support::{PATIENCE, Place, durable, eventually, started, watch};

/// Two deployments at once, of which each wants another filter than before: one of them is refused.
async fn filters_race(is_new: bool, is_typescript: bool) {
    let place = Place::shared().await;
    let builder = || if is_typescript { place.typescript() } else { place.builder() };
    let emitter = started(builder()).await;
    for round in 0..15 {
        let name = format!("reader{round}");
        if !is_new {
            let old = started(builder()).await;
            watch(&old, &name, Filter::event("old"), durable()).await.unwrap();
            old.shutdown(PATIENCE).await;
        }
        let bridges = [started(builder()).await, started(builder()).await];
        let names = ["one", "two"];
        let registered = join_all(
            bridges
                .iter()
                .zip(names)
                .map(|(bridge, event)| watch(bridge, &name, Filter::event(event), durable())),
        )
        .await;
        for refused in registered.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(refused.kind(), ErrorKind::TopologyMismatch, "round {round}: {refused:?}");
        }
        // Whoever was let in gets all that it asked for.
        for _event in 0..10 {
            for event in names {
                emitter.emit(event, event).await.unwrap();
            }
        }
        let in_hand = async || {
            let queues = place.queues().await.into_iter();
            queues.filter(|queue| queue.name.ends_with(&name)).map(|queue| queue.messages).sum::<usize>()
        };
        let came = || {
            let seen = registered.iter().map(|outcome| outcome.as_ref().map_or(0, |(seen, _)| seen.count()));
            let filtered = bridges.iter().map(|bridge| bridge.stats().filtered);
            (seen.collect::<Vec<_>>(), filtered.collect::<Vec<_>>())
        };
        eventually("all is delivered", async || {
            let (seen, filtered) = came();
            seen.iter().sum::<usize>() + filtered.iter().sum::<u64>() as usize >= 10 && in_hand().await == 0
        })
        .await;
        for (outcome, seen) in registered.iter().zip(came().0) {
            assert_eq!(seen, if outcome.is_ok() { 10 } else { 0 }, "round {round}: {:?}", came());
        }
        for bridge in &bridges {
            bridge.shutdown(PATIENCE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_filters_wins_for_a_new_subscriber() {
    filters_race(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_filters_wins_when_both_are_changed() {
    filters_race(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_filters_wins_when_both_are_changed_beside_the_original() {
    filters_race(false, true).await;
}

/// All instances of the next deployment start at once.
async fn instances_change_a_filter_at_once(is_typescript: bool) {
    let place = Place::shared().await;
    let builder = || if is_typescript { place.typescript() } else { place.builder() };
    let emitter = started(builder()).await;
    for round in 0..10 {
        let name = format!("reader{round}");
        let old = started(builder()).await;
        watch(&old, &name, Filter::event("old"), durable()).await.unwrap();
        old.shutdown(PATIENCE).await;
        let mut bridges = Vec::new();
        for _instance in 0..4 {
            bridges.push(Arc::new(started(builder()).await));
        }
        let registered =
            join_all(bridges.iter().map(|bridge| watch(bridge, &name, Filter::event("new"), durable())))
                .await;
        for outcome in &registered {
            assert!(outcome.is_ok(), "round {round}: {outcome:?}");
        }
        let queue = if is_typescript {
            format!("purista.sub.Watcher.1.{name}")
        } else {
            format!("purista.subscription.Watcher-1-{name}")
        };
        let bindings = place.bindings().await;
        let ways = bindings.iter().filter(|binding| binding.destination == queue).count();
        assert_eq!(ways, if is_typescript { 2 } else { 4 }, "round {round}: {bindings:?}");
        for number in 0..20 {
            emitter.event("old").timeout(PATIENCE).emit("nobody wants it").await.unwrap();
            emitter.event("new").timeout(PATIENCE).emit(&number).await.unwrap();
        }
        let count = || registered.iter().flatten().map(|(seen, _)| seen.count()).sum::<usize>();
        eventually("all came", async || count() >= 20).await;
        assert_eq!(count(), 20);
        for bridge in &bridges {
            assert_eq!(bridge.stats().filtered, 0);
            bridge.shutdown(PATIENCE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_may_change_a_filter_at_once() {
    instances_change_a_filter_at_once(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_may_change_a_filter_at_once_beside_the_original() {
    instances_change_a_filter_at_once(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_comes_to_one_of_those_who_begin_at_once() {
    let place = Place::shared().await;
    let emitter = started(place.builder()).await;
    for round in 0..10 {
        let name = format!("reader{round}");
        let mut bridges = Vec::new();
        for _instance in 0..4 {
            bridges.push(started(place.builder()).await);
        }
        let registered = bridges.iter().map(|bridge| watch(bridge, &name, Filter::event("new"), durable()));
        let registered = join_all(registered).await;
        let registered: Vec<_> = registered.into_iter().map(Result::unwrap).collect();
        for number in 0..20 {
            emitter.event("new").timeout(PATIENCE).emit(&number).await.unwrap();
        }
        let count = || registered.iter().map(|(seen, _)| seen.count()).sum::<usize>();
        eventually("all came", async || count() >= 20).await;
        for bridge in &bridges {
            assert!(bridge.shutdown(PATIENCE).await.is_clean());
        }
        assert_eq!(count(), 20, "round {round}");
    }
}
