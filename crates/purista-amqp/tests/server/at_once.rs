//! All instances of a subscriber begin in the same moment.

use futures_util::future::join_all;
use purista_core::{EventBridge as _, EventBridgeExt as _, Filter};

use crate::support::{PATIENCE, Place, durable, eventually, started, watch};

const EVENTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn each_event_comes_to_one_of_those_who_begin_at_once_beside_the_original() {
    let place = Place::shared().await;
    let emitter = started(place.typescript()).await;
    for round in 0..10 {
        let name = format!("reader{round}");
        let mut bridges = Vec::new();
        for _instance in 0..4 {
            bridges.push(started(place.typescript()).await);
        }
        let registered = bridges.iter().map(|bridge| watch(bridge, &name, Filter::event("new"), durable()));
        let registered = join_all(registered).await;
        let registered: Vec<_> = registered.into_iter().map(Result::unwrap).collect();
        for number in 0..EVENTS {
            emitter.event("new").timeout(PATIENCE).emit(&number).await.unwrap();
        }
        let count = || registered.iter().map(|(seen, _)| seen.count()).sum::<usize>();
        eventually("all came", async || count() >= EVENTS).await;
        for bridge in &bridges {
            assert!(bridge.shutdown(PATIENCE).await.is_clean());
        }
        assert_eq!(count(), EVENTS, "round {round}");
    }
}
