//! A broker that has lost all its data.

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter};

use crate::support::{PATIENCE, Place, durable, eventually, started, watch, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_broker_forgot_is_told_and_made_again() {
    let place = Place::tuned().await;
    let bridge = started(place.persistent("node")).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    for number in 0..10 {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    seen.at_least(10).await.unwrap();
    let mut events = bridge.events();
    let process = place.server.process();
    process.kill().await.unwrap();
    eventually("the loss is noticed", || !bridge.health().connected).await;
    process.wipe().await.unwrap();
    process.start_again().await.unwrap();
    within("the loss is told", async { while events.next().await.unwrap() != BridgeEvent::SessionLost {} })
        .await;
    eventually("it is well again", || bridge.health().is_healthy()).await;
    for number in 10..20 {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    seen.at_least(20).await.unwrap();
    assert_eq!(seen.payloads(), Vec::from_iter((0..20).map(|number| number.to_string())));
}

/// Nothing is lost with a session that the broker still has, so nothing is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_broker_kept_is_taken_up() {
    let place = Place::tuned().await;
    let bridge = started(place.persistent("node")).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    let mut events = bridge.events();
    let process = place.server.process();
    process.terminate().await.unwrap();
    eventually("the loss is noticed", || !bridge.health().connected).await;
    process.start_again().await.unwrap();
    eventually("it is well again", || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    bridge.shutdown(PATIENCE).await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event.clone());
        if event == BridgeEvent::ShutDown {
            break;
        }
    }
    assert!(!told.contains(&BridgeEvent::SessionLost), "{told:?}");
}
