//! A list of servers, of which some are down, and servers over WebSocket.

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::{free_port, mosquitto::MosquittoConfig};
use purista_mqtt::MqttBridge;

use crate::support::{PATIENCE, Place, echo, eventually, in_order, serve, started, watch, within};

fn nobody() -> String {
    format!("mqtt://127.0.0.1:{}", free_port().unwrap())
}

async fn works(bridge: &MqttBridge) {
    serve(bridge, ("Greeter", "1", "greet"), echo()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_up_is_found_among_those_that_are_down() {
    let place = Place::stock().await;
    let servers = [nobody(), nobody(), place.server.url().to_owned(), nobody()].join(", ");
    works(&started(MqttBridge::builder(servers)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_dies_the_next_one_is_used() {
    let (used, other) = (Place::stock().await, Place::stock().await);
    let bridge = started(MqttBridge::builder(format!("{},{}", used.server.url(), other.server.url()))).await;
    works(&bridge).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    let mut events = bridge.events();
    assert_eq!(other.server.clients().unwrap(), Vec::<String>::new());
    used.server.process().kill().await.unwrap();
    within("the other server", async { while events.next().await.unwrap() != BridgeEvent::Connected {} })
        .await;
    eventually("all consumes", || bridge.health().is_healthy()).await;
    // It has a connection of its own, whose loss may be noticed later.
    eventually("the reader is there", || !other.subscriptions_of("reader").is_empty()).await;
    // Somebody who knows only the other server reaches all.
    let caller = other.bridge().await;
    let greeting: String = caller.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    caller.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_carry_the_same() {
    let place = Place::on(MosquittoConfig::stock().with_websockets()).await;
    let bridge = started(MqttBridge::builder(place.server.websocket_url().unwrap())).await;
    works(&bridge).await;
    let seen = watch(&bridge, "reader", Filter::event("happened"), in_order()).await.unwrap();
    // Mosquitto 2.0 sends no more than 4 KB in a tenth of a second over a WebSocket, once a message is larger than that.
    let large = "x".repeat(20_000);
    place.bridge().await.event("happened").timeout(PATIENCE).emit(&large).await.unwrap();
    seen.sentinel(&format!("\"{large}\"")).await.unwrap();
    bridge.event("happened").timeout(PATIENCE).emit(&format!("{large}y")).await.unwrap();
    seen.sentinel(&format!("\"{large}y\"")).await.unwrap();
}
