//! Messages that wait for their next attempt, far more than the broker sends without an acknowledgement.

use std::{sync::Arc, time::Duration};

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType};
use purista_conformance::{Collector, Latch, on_event};
use purista_core::{EventBridge as _, EventBridgeExt as _, Filter, HandlerError, RetryPolicy, Subscription};

use crate::support::{PATIENCE, Place, durable, eventually, started};

const POISON: usize = 200;
const LONG: Duration = Duration::from_secs(600);

/// Fails at numbers, and holds texts.
async fn subscribe(bridge: &AmqpBridge, max_concurrency: usize, seen: &Arc<Collector>, latch: &Arc<Latch>) {
    let (seen, latch) = (Arc::clone(seen), Arc::clone(latch));
    let handler = on_event(move |context| {
        let fails = context.message().payload().unwrap().deserialize::<usize>().is_ok();
        if !fails {
            seen.record(&context);
        }
        let latch = Arc::clone(&latch);
        async move {
            if fails {
                return Err(HandlerError::unhandled("fails"));
            }
            latch.pass().await;
            Ok(())
        }
    });
    let retry = RetryPolicy::default().with_initial_delay(LONG).with_max_delay(LONG);
    let options = durable().with_retry(retry).with_max_concurrency(max_concurrency);
    let subscription = Subscription::new(("Watcher", "1", "fails"), Filter::event("happened"));
    bridge.register_subscription(subscription.with_options(options), handler).await.unwrap();
}

/// However many wait, the broker sends no more ahead than before: others instances, or this one later, get the rest.
async fn no_more_is_sent_ahead(builder: AmqpBridgeBuilder, place: &Place, max_concurrency: usize) {
    let bridge = started(builder).await;
    let (seen, latch) = (Collector::new(), Latch::new());
    subscribe(&bridge, max_concurrency, &seen, &latch).await;
    for number in 0..POISON {
        bridge.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
    }
    eventually("all have failed", async || bridge.stats().failed_attempts == POISON as u64).await;
    let others = 4 * max_concurrency + 1;
    for number in 0..others {
        bridge.event("happened").timeout(PATIENCE).emit(&format!("{number}")).await.unwrap();
    }
    latch.reached(max_concurrency).await.unwrap();
    let queue = async || {
        let mut queues = place.queues().await;
        queues.retain(|queue| queue.messages > 0);
        assert!(queues.len() <= 1, "{queues:?}");
        queues.pop()
    };
    eventually("what the broker counts", async || {
        queue().await.is_some_and(|queue| queue.messages == POISON + others && queue.consumers == 1)
    })
    .await;
    // Some may be of the consumer before, and one window is of the last one.
    let queue = queue().await.unwrap();
    assert!(queue.messages_ready >= others - 2 * max_concurrency, "{queue:?}");

    latch.open();
    seen.at_least(others).await.unwrap();
    eventually("the others are done", async || bridge.stats().handled == others as u64).await;
    assert_eq!(bridge.stats().failed_attempts, POISON as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_sent_ahead_while_many_wait() {
    for max_concurrency in [1, 4] {
        let place = Place::shared().await;
        no_more_is_sent_ahead(place.builder(), &place, max_concurrency).await;
        let place = Place::shared().await;
        no_more_is_sent_ahead(place.builder().queue_type(QueueType::Classic), &place, max_concurrency).await;
        let place = Place::shared().await;
        no_more_is_sent_ahead(place.typescript(), &place, max_concurrency).await;
    }
}
