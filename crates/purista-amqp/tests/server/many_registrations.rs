//! More registrations than channels fit on one connection.

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::rabbitmq::{Connection, RabbitConfig};

use crate::support::{Place, eventually, started, transient, watch, within};

const REGISTRATIONS: usize = 70;

/// On so many connections.
const CONNECTIONS: usize = 3;

/// The connections to consume, when the server knows of all channels, and of no connection that is gone.
async fn consuming(place: &Place) -> Vec<Connection> {
    let mut found = Vec::new();
    eventually("all channels are known, on three connections", async || {
        found = place.connections("consumes").await;
        let channels: usize = found.iter().map(|connection| connection.channels).sum();
        // One is that of the answers.
        (found.len(), channels) == (CONNECTIONS, REGISTRATIONS + 1)
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn many_registrations_share_some_connections_and_come_back_when_one_is_lost() {
    let place = Place::shared().await;
    let bridge = started(place.builder()).await;
    let mut watched = Vec::new();
    for number in 0..REGISTRATIONS {
        let event = format!("event{number}");
        let (seen, _) = watch(&bridge, &event, Filter::event(event.as_str()), transient()).await.unwrap();
        watched.push((event, seen));
    }
    for (event, seen) in &watched {
        bridge.emit(event.as_str(), "before").await.unwrap();
        seen.sentinel("\"before\"").await.unwrap();
    }
    let connections = consuming(&place).await;
    let youngest = connections.iter().min_by_key(|connection| connection.channels).unwrap();

    let mut events = bridge.events();
    place.server.management().close_connection(youngest).await.unwrap();
    within("a new connection", async { while events.next().await.unwrap() != BridgeEvent::Connected {} })
        .await;
    for (event, seen) in &watched {
        bridge.emit(event.as_str(), "after").await.unwrap();
        seen.sentinel("\"after\"").await.unwrap();
    }
    consuming(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_allows_few_channels_gets_more_connections() {
    let place = Place::own(RabbitConfig::default().with_lines("channel_max = 20")).await;
    let bridge = started(place.builder()).await;
    for number in 0..25 {
        let event = format!("event{number}");
        let (seen, _) = watch(&bridge, &event, Filter::event(event.as_str()), transient()).await.unwrap();
        bridge.emit(event.as_str(), "before").await.unwrap();
        seen.sentinel("\"before\"").await.unwrap();
    }
}
