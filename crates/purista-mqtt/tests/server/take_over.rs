//! Two bridges with the same instance id: the broker gives a client's name to who comes last.

use std::time::Duration;

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::FaultProxy;
use purista_mqtt::MqttBridge;
use tokio::time::Instant;

use crate::support::{PATIENCE, Place, echo, eventually, in_order, serve, started, watch, within};

const LOSSES: u32 = 4;

/// How long a bridge waits at the most until it takes its name back; by chance, it is half of that.
const PAUSE: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn bridges_with_the_same_id_say_so_and_heal_when_one_goes() {
    let place = Place::stock().await;
    let proxy = FaultProxy::start(place.server.address()).unwrap();
    let url = place.server.url_through(&proxy);
    let builder = || MqttBridge::builder(&url).instance_id("twin").max_reconnect_delay(PAUSE);
    let first = started(builder()).await;
    serve(&first, ("Greeter", "1", "greet"), echo()).await;
    let seen = watch(&first, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut events = first.events();
    let second = started(builder()).await;

    let mut lost = async |times: u32| {
        for _loss in 0..times {
            let lost =
                async { while !matches!(events.next().await.unwrap(), BridgeEvent::Disconnected(_)) {} };
            within("the name is taken away again", lost).await;
        }
    };
    // Pauses grow until they have their full length.
    lost(3).await;
    let (began, attempts) = (Instant::now(), proxy.connection_attempts());
    lost(LOSSES).await;
    // Between two losses of the one, each of them waits before it takes the name back.
    let (took, attempts) = (began.elapsed(), proxy.connection_attempts() - attempts);
    // A machine so busy that a session lasts as long as the longest pause lets pauses be short again.
    assert!(took >= LOSSES * PAUSE * 3 / 4, "{LOSSES} losses within {took:?}");
    assert!(attempts <= 5 * LOSSES as usize, "{attempts} connections within {took:?}");

    second.shutdown(PATIENCE).await;
    eventually("the first one is well", || first.health().is_healthy()).await;
    let caller = place.bridge().await;
    let greeting: String = caller.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    caller.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
}
