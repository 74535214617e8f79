//! More registrations than channels fit on one connection.

use purista_core::{BridgeEvent, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::rabbitmq::{Connection, RabbitConfig};

use crate::support::{Place, eventually, started, transient, watch, within};

const REGISTRATIONS: usize = 70;

/// The channels of each connection to consume, when the server knows of all that are expected.
async fn consuming(place: &Place) -> Vec<Connection> {
    let find = async || place.connections("consumes").await;
    let channels = async || find().await.iter().map(|connection| connection.channels).sum::<usize>();
    // One is that of the answers.
    eventually("all channels are known", async || channels().await == REGISTRATIONS + 1).await;
    find().await
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
    assert_eq!(connections.len(), 3, "{connections:?}");
    let youngest = connections.iter().min_by_key(|connection| connection.channels).unwrap();

    let mut events = bridge.events();
    place.server.management().close_connection(youngest).await.unwrap();
    within("a new connection", async { while events.next().await.unwrap() != BridgeEvent::Connected {} })
        .await;
    for (event, seen) in &watched {
        bridge.emit(event.as_str(), "after").await.unwrap();
        seen.sentinel("\"after\"").await.unwrap();
    }
    assert_eq!(consuming(&place).await.len(), 3);
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
