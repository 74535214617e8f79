//! An instance of a subscriber leaves in order.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use purista_conformance::{Collector, Latch};
use purista_core::{
    BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter, Subscription, SubscriptionHandler,
    SubscriptionOptions,
};
use purista_integration_tests::interop::held;
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};
use rumqttc::{PubAckReason, PublishProperties};

use crate::{
    client::{add_to_session, end_session},
    support::{PATIENCE, Place, durable, eventually, in_order, started, within},
};

const EVENTS: usize = 60;

async fn member(
    builder: MqttBridgeBuilder,
    options: SubscriptionOptions,
    handler: Arc<dyn SubscriptionHandler>,
) -> Arc<MqttBridge> {
    let bridge = started(builder).await;
    let subscription = Subscription::new(("Watcher", "1", "reader"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
    Arc::new(bridge)
}

fn sorted(seen: &Collector) -> Vec<usize> {
    let mut numbers: Vec<_> = seen.payloads().iter().map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

async fn a_member_leaves(is_durable: bool) {
    let place = Place::tuned().await;
    let builder = |id: &str| if is_durable { place.persistent(id) } else { place.builder().instance_id(id) };
    let options = || in_order().with_durable(is_durable);
    let (seen, latch) = (Collector::new(), Latch::new());
    let goes = member(builder("goes"), options(), held(&seen, &latch)).await;
    let stays = member(builder("stays"), options(), held(&seen, &latch)).await;
    let emitter = place.bridge().await;
    for number in 0..EVENTS {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    latch.reached(2).await.unwrap();

    let (mut events, leaving) = (goes.events(), Arc::clone(&goes));
    let shutdown = tokio::spawn(async move { leaving.shutdown(PATIENCE).await });
    within("the shutdown begins", async { while events.next().await.unwrap() != BridgeEvent::Draining {} })
        .await;
    latch.open();
    let report = shutdown.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    seen.at_least(EVENTS).await.unwrap();
    for number in EVENTS..2 * EVENTS {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    seen.at_least(2 * EVENTS).await.unwrap();
    eventually("nothing is in hand", || stays.stats().in_hand == 0).await;
    assert_eq!(sorted(&seen), Vec::from_iter(0..2 * EVENTS));
    assert_eq!(place.server.queued().await.unwrap(), 0);
    let client = "purista-Watcher-1-reader-goes";
    assert!(!place.server.clients().unwrap().contains(&client.to_owned()));
    assert!(!end_session(place.server.address(), client).await, "its session is there");
    let stays = "purista-Watcher-1-reader-stays";
    assert_eq!(end_session(place.server.address(), stays).await, is_durable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_member_that_leaves_loses_nothing_and_leaves_no_session() {
    a_member_leaves(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_member_that_leaves_loses_nothing() {
    a_member_leaves(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_that_leaves_keeps_its_session() {
    let place = Place::tuned().await;
    let (seen, latch) = (Collector::new(), Latch::new());
    let first = member(place.persistent("node"), durable(), held(&seen, &latch)).await;
    let emitter = place.bridge().await;
    for number in 0..5 {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    latch.reached(1).await.unwrap();
    let report = first.shutdown(Duration::from_secs(2)).await;
    assert_eq!(report.cancelled_handlers, 1, "{report:?}");
    for number in 5..10 {
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    assert_eq!(place.server.queued().await.unwrap(), 10);
    latch.open();
    let second = member(place.persistent("node"), durable(), held(&seen, &latch)).await;
    seen.at_least(10).await.unwrap();
    emitter.event("happened").timeout(PATIENCE).emit(&10).await.unwrap();
    seen.sentinel("10").await.unwrap();
    assert_eq!(seen.payloads(), Vec::from_iter((0..11).map(|number| number.to_string())));
    eventually("nothing is in hand", || second.stats().in_hand == 0).await;
    assert_eq!(place.server.queued().await.unwrap(), 0);
}

/// Whoever is there last, what nobody has handled waits for one of them. Who leaves at once with others may be one of
/// several that are there last, of whom each keeps what comes.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_members_leave_at_once_nothing_is_lost() {
    let place = Place::tuned().await;
    let emitter = place.bridge().await;
    let ids = ["one", "two", "three"];
    for round in 0..5 {
        let (seen, latch) = (Collector::new(), Latch::new());
        let mut members = Vec::new();
        for id in ids {
            members.push(member(place.persistent(id), durable(), held(&seen, &latch)).await);
        }
        let first = 2 * EVENTS * round;
        for number in first..first + EVENTS {
            emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        }
        latch.reached(members.len()).await.unwrap();
        join_all(members.iter().map(|member| member.shutdown(Duration::from_millis(200)))).await;
        assert_eq!(seen.count(), 0, "round {round}");
        for number in first + EVENTS..first + 2 * EVENTS {
            emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        }

        latch.open();
        let mut back = Vec::new();
        for id in ids {
            back.push(member(place.persistent(id), durable(), held(&seen, &latch)).await);
        }
        let all = || (first..first + 2 * EVENTS).all(|number| sorted(&seen).binary_search(&number).is_ok());
        eventually("all came", all).await;
        join_all(back.iter().map(|member| member.shutdown(PATIENCE))).await;
    }
}

/// The one that was there last has kept what came while nobody was there, and nothing that the other one handled.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_member_handles_while_the_last_one_is_away_does_not_come_again() {
    let place = Place::tuned().await;
    let emitter = place.bridge().await;
    let (seen, latch) = (Collector::new(), Latch::new());
    latch.open();
    let first = member(place.persistent("first"), durable(), held(&seen, &latch)).await;
    let last = member(place.persistent("last"), durable(), held(&seen, &latch)).await;
    assert!(first.shutdown(PATIENCE).await.is_clean());
    assert!(last.shutdown(PATIENCE).await.is_clean());
    let emit = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        }
    };
    emit(0..EVENTS).await;
    let first = member(place.persistent("first"), durable(), held(&seen, &latch)).await;
    emit(EVENTS..2 * EVENTS).await;
    // Who comes back amid the adoption gets what is handed over at this moment once more.
    let is_adopting =
        || place.server.clients().unwrap().iter().any(|client| client.ends_with("-reader-last"));
    eventually("its session is adopted", || !is_adopting()).await;
    let last = member(place.persistent("last"), durable(), held(&seen, &latch)).await;
    emit(2 * EVENTS..3 * EVENTS).await;
    seen.at_least(3 * EVENTS).await.unwrap();
    let in_hand = || first.stats().in_hand + last.stats().in_hand;
    eventually("nothing is in hand", || in_hand() == 0).await;
    assert_eq!(place.server.queued().await.unwrap(), 0);
    assert_eq!(sorted(&seen), Vec::from_iter(0..3 * EVENTS));
}

/// Whoever was interrupted when it adopted a session has left in it what marks its end.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_an_interrupted_adoption_is_adopted() {
    let place = Place::tuned().await;
    let (seen, latch) = (Collector::new(), Latch::new());
    latch.open();
    let left = member(place.persistent("left"), durable(), held(&seen, &latch)).await;
    assert!(left.shutdown(PATIENCE).await.is_clean());
    let session = "purista-Watcher-1-reader-left";
    let end = format!("purista/round_trip/{session}");
    add_to_session(place.server.address(), session, &end).await;
    let emitter = place.bridge().await;
    for number in 0..EVENTS {
        if number == EVENTS / 2 {
            let marked = place.client().await.publish(&end, "earlier", PublishProperties::default()).await;
            assert_eq!(marked, PubAckReason::Success);
        }
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    let comes = member(place.persistent("comes"), durable(), held(&seen, &latch)).await;
    seen.at_least(EVENTS).await.unwrap();
    eventually("nothing is in hand", || comes.stats().in_hand == 0).await;
    assert_eq!(sorted(&seen), Vec::from_iter(0..EVENTS));
    assert_eq!(comes.stats().malformed, 0);
}
