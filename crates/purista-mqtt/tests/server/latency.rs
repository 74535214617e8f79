//! How long a call takes where nothing else goes on.

use std::time::{Duration, Instant};

use purista_core::{EventBridgeExt as _, Filter};
use purista_integration_tests::mosquitto::MosquittoConfig;
use purista_mqtt::MqttBridge;

use crate::support::{PATIENCE, Place, echo, in_order, serve, started, watch};

const CALLS: usize = 50;

/// What only takes longer if something stalls.
const STALL: Duration = Duration::from_millis(30);

/// Returns what one in five did not exceed: a delayed acknowledgement holds nearly all up, a busy machine some.
fn quick_fifth(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 5]
}

/// A stock broker collects small packets until the one before is acknowledged, which a stock kernel does after 40 ms.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_does_not_wait_for_a_delayed_acknowledgement() {
    let place = Place::on(MosquittoConfig::stock().with_websockets()).await;
    for url in [place.server.url(), &place.server.websocket_url().unwrap()] {
        let builder = || MqttBridge::builder(url);
        let (service, caller) = (started(builder()).await, started(builder()).await);
        serve(&service, ("Greeter", "1", "greet"), echo()).await;
        let mut times = Vec::new();
        for number in 0..CALLS {
            let began = Instant::now();
            let answer: usize = caller.invoke(("Greeter", "1", "greet"), &number).await.unwrap();
            assert_eq!(answer, number);
            times.push(began.elapsed());
        }
        assert!(quick_fifth(times.clone()) < STALL, "{url}: {times:?}");
    }
}

/// From the emit until the handler of a subscription runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_does_not_wait_for_a_delayed_acknowledgement() {
    let place = Place::stock().await;
    let (subscriber, emitter) = (place.bridge().await, place.bridge().await);
    let seen = watch(&subscriber, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut times = Vec::new();
    for number in 0..CALLS {
        let began = Instant::now();
        emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        seen.at_least(number + 1).await.unwrap();
        times.push(began.elapsed());
    }
    assert!(quick_fifth(times.clone()) < STALL, "{times:?}");
}
