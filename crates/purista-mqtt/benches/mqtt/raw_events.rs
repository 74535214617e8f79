//! The raw side of confirmed and acknowledged events.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use bytes::Bytes;
use purista_integration_tests::bench::{Consumed, Contender, Handled, Stage};
use rumqttc::{AsyncClient, PubAckReason, PublishOptions, PublishProperties, ValidatedTopic};

use crate::client::{Link, publish, read, subscribe};

/// How many events wait for the acknowledgement of the broker at once.
pub(crate) const IN_FLIGHT: usize = 512;

/// How many messages a consumer has in hand, with anybody.
pub(crate) const IN_HAND: u16 = 1_024;

/// Where events go, and who listens.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) topic: ValidatedTopic,
    pub(crate) payload: Bytes,
    pub(crate) properties: PublishProperties,
    /// What consumers share.
    pub(crate) filter: String,
}

/// Adds a publisher with so many consumers.
pub(crate) async fn add(
    stage: &mut Stage,
    name: &'static str,
    broker: SocketAddr,
    consumers: usize,
    route: Route,
) -> anyhow::Result<()> {
    let (handled, mut clients) = (Arc::new(Handled::default()), Vec::new());
    for number in 0..consumers {
        let id = format!("{name}-{consumers}-consumer-{number}");
        clients.push(consume(stage, broker, &id, &route.filter, &handled).await?);
    }
    let clients: Arc<[AsyncClient]> = clients.into();
    let consumed = (consumers > 0).then(|| Consumed::new(handled, move || settle(Arc::clone(&clients))));
    let expected = match consumers {
        0 => PubAckReason::NoMatchingSubscribers,
        _ => PubAckReason::Success,
    };
    let (client, events) = Link::new(broker, &format!("{name}-publisher")).build()?;
    read(stage, events, |_| Ok(()));
    let publisher = Arc::new((client, route));
    stage.add(Contender::of_events(name, IN_FLIGHT, consumed, move || {
        let publisher = Arc::clone(&publisher);
        async move {
            let (client, Route { topic, payload, properties, .. }) = &*publisher;
            let options = PublishOptions::at_least_once().properties(properties.clone());
            let reason = publish(client, topic.clone(), payload.clone(), options).await?;
            ensure!(reason == expected, "an event was answered with {reason:?}");
            Ok(())
        }
    }));
    Ok(())
}

/// Starts to consume; acknowledges each message after it was handled.
async fn consume(
    stage: &mut Stage,
    broker: SocketAddr,
    client_id: &str,
    filter: &str,
    handled: &Arc<Handled>,
) -> anyhow::Result<AsyncClient> {
    let (client, events) = Link::new(broker, client_id).durable(IN_HAND).build()?;
    let (acknowledges, handled) = (client.clone(), Arc::clone(handled));
    read(stage, events, move |publish| {
        handled.one_more();
        Ok(acknowledges.try_ack(&publish)?)
    });
    subscribe(&client, filter, None).await?;
    Ok(client)
}

/// Waits until the broker has all acknowledgements: a consumer sends them before what is published afterwards.
async fn settle(clients: Arc<[AsyncClient]>) -> anyhow::Result<()> {
    for client in &*clients {
        publish(client, ValidatedTopic::new("settled")?, Bytes::new(), PublishOptions::at_least_once())
            .await?;
    }
    Ok(())
}
