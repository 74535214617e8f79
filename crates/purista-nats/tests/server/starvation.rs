//! More messages that wait for their next attempt than a consumer has without acknowledgement elsewhere.

use std::{sync::Arc, time::Duration};

use purista_conformance::{Collector, on_event};
use purista_core::{EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription};
use purista_nats::NatsBridge;

use crate::support::{PATIENCE, Place, durable, reaches};

const LONG: Duration = Duration::from_secs(600);

/// Fails at numbers for a long time.
async fn subscribe(bridge: &NatsBridge, seen: &Arc<Collector>) {
    let seen = Arc::clone(seen);
    let handler = on_event(move |context| {
        let fails = context.message().payload().unwrap().deserialize::<usize>().is_ok();
        if !fails {
            seen.record(&context);
        }
        async move { if fails { Err(HandlerError::unhandled("fails")) } else { Ok(()) } }
    });
    let retry = RetryPolicy::default().with_initial_delay(LONG).with_max_delay(LONG);
    let options = durable().with_retry(retry).with_max_concurrency(1);
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
}

/// The consumer is one for all instances.
#[tokio::test(flavor = "multi_thread")]
async fn many_that_wait_in_all_instances_together_do_not_stop_others() {
    const POISON: usize = 10_200;
    let place = Place::shared(true).await;
    let (bridges, seen) = ([place.bridge().await, place.bridge().await], Collector::new());
    for bridge in &bridges {
        subscribe(bridge, &seen).await;
    }
    let failed = || bridges.iter().map(|bridge| bridge.stats().failed_attempts as usize).sum();
    for begin in (0..POISON).step_by(100) {
        let emitter = &bridges[0];
        let emits = (begin..begin + 100)
            .map(|number| async move { emitter.event("happened").timeout(PATIENCE).emit(&number).await });
        futures_util::future::try_join_all(emits).await.unwrap();
    }
    reaches(POISON, failed).await;
    bridges[0].emit("happened", "sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    for bridge in &bridges {
        assert!(bridge.shutdown(PATIENCE).await.is_clean());
    }
}
