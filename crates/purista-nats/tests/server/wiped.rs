//! A server that has lost all its data.

use purista_core::{EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::nats::NatsConfig;

use crate::support::{PATIENCE, Place, durable, eventually, reaches, watch};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_stream_acknowledges_is_handled() {
    let place = Place::own(NatsConfig::jetstream()).await;
    let bridge = place.bridge().await;
    let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
    for number in 0..100 {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    reaches(100, || seen.count()).await;

    let process = place.server.process().unwrap();
    process.kill().await.unwrap();
    eventually("the loss is noticed", || !bridge.health().connected).await;
    process.wipe().await.unwrap();
    process.start_again().await.unwrap();
    eventually("it is well again", || bridge.health().is_healthy()).await;
    // Fewer than before: the new stream does not reach the old one's numbers.
    for number in 0..10 {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    reaches(110, || seen.count()).await;
}
