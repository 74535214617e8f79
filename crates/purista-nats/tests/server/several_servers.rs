//! A list of servers, of which some are down.

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _};
use purista_integration_tests::{free_port, nats::NatsConfig};

use crate::support::{Place, echo, eventually, serve, started, within};

fn nobody() -> String {
    format!("nats://127.0.0.1:{}", free_port().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_up_is_found_among_those_that_are_down() {
    let place = Place::shared(false).await;
    let servers = [nobody(), nobody(), place.server.url().to_owned(), nobody()].join(", ");
    let bridge = started(place.builder_for(&servers).without_jetstream()).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_dies_the_next_one_is_used() {
    let places = [Place::own(NatsConfig::core()).await, Place::own(NatsConfig::core()).await];
    let servers = format!("{},{}", places[0].server.url(), places[1].server.url());
    let bridge = started(places[0].builder_for(&servers).without_jetstream()).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let mut events = bridge.events();

    let connections = places[0].server.monitor().info().await.unwrap().connections;
    let (used, other) = if connections == 1 { (&places[0], &places[1]) } else { (&places[1], &places[0]) };
    used.server.process().unwrap().kill().await.unwrap();
    within("the other server", async { while events.next().await.unwrap() != BridgeEvent::Connected {} })
        .await;
    eventually("it is healthy", || bridge.health().is_healthy()).await;
    assert_eq!(other.server.monitor().info().await.unwrap().connections, 1);
    // Somebody who knows only the other server reaches the command.
    let caller = started(other.builder().prefix(&places[0].prefix).without_jetstream()).await;
    let greeting: String = caller.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}
