//! A list of servers, of which some are down.

use purista_amqp::AmqpBridge;
use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _};
use purista_integration_tests::{free_port, rabbitmq::RabbitConfig};

use crate::support::{Place, echo, eventually, serve, started, within};

fn nobody() -> String {
    format!("amqp://127.0.0.1:{}", free_port().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_up_is_found_among_those_that_are_down() {
    let place = Place::shared().await;
    let first = nobody().replace("amqp://", "amqp://guest:guest@");
    let servers = [first, nobody(), place.server.url().to_owned(), nobody()].join(", ");
    // User, password and virtual host are those of the first one.
    let bridge = started(AmqpBridge::builder(&servers).vhost(&place.vhost)).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    let first = format!("amqp://guest:guest@127.0.0.1:{}/{}", free_port().unwrap(), place.vhost);
    started(AmqpBridge::builder([first, format!("amqp://{}", place.server.address())].join(","))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_dies_the_next_one_is_used() {
    let places = [Place::own(RabbitConfig::default()).await, Place::own(RabbitConfig::default()).await];
    let servers = format!("{},{}", places[0].server.url(), places[1].server.url());
    let bridge = started(AmqpBridge::builder(&servers)).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let mut events = bridge.events();

    // Exclusive queues are known at once, connections are not.
    let (used, other) =
        if places[0].queues().await.is_empty() { (&places[1], &places[0]) } else { (&places[0], &places[1]) };
    assert!(other.queues().await.is_empty());
    used.server.process().unwrap().kill().await.unwrap();
    within("the other server", async { while events.next().await.unwrap() != BridgeEvent::Connected {} })
        .await;
    eventually("it is healthy", async || bridge.health().is_healthy()).await;
    assert!(!other.queues().await.is_empty());
    // Somebody who knows only the other server reaches the command.
    let caller = other.bridge().await;
    let greeting: String = caller.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
}
