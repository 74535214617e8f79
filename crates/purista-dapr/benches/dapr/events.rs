//! Events, and their consumers.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use purista_core::{EmitOptions, EventBridge as _};
use purista_integration_tests::{
    bench::{Consumed, Handled, Stage, ours},
    dapr::Component,
    rabbitmq::RabbitServer,
};

use crate::{
    bridge::{consumer, sender},
    place::{OURS, PREFETCH, Place, RAW, SENDER},
    raw_events::{self, Consumers, IN_FLIGHT, RawEvent},
    wire::{Sent, Wire},
};

/// Sets up events in the memory of their sidecar, without a consumer.
pub(crate) async fn in_memory() -> anyhow::Result<Stage> {
    let mut stage = Stage::default();
    set_up(&mut stage, &Place::new(Component::InMemory)?, false).await?;
    Ok(stage)
}

/// Sets up confirmed events, with a consumer that acknowledges them or without.
pub(crate) async fn rabbitmq(server: Arc<RabbitServer>, is_consumed: bool) -> anyhow::Result<Stage> {
    let vhost = if is_consumed { "events" } else { "emit" };
    server.management().create_vhost(vhost).await?;
    let component = Component::RabbitMq { url: server.url_of(vhost) };
    let mut stage = Stage::default();
    stage.at_end(drained(server, vhost));
    set_up(&mut stage, &Place::new(component)?, is_consumed).await?;
    Ok(stage)
}

async fn set_up(stage: &mut Stage, place: &Place, is_consumed: bool) -> anyhow::Result<()> {
    let publisher = place.sidecar(stage, SENDER).await?;
    let events = vec![
        RawEvent::bare("raw-a", ours::payload()?, true),
        RawEvent::bare("raw-wrapped", ours::payload()?, false),
        whole_wire(event(&publisher.url).await?),
    ];
    let (mut consumers, mut consumed) = (Consumers::new(), None);
    if is_consumed {
        let app = place.sidecar(stage, RAW).await?;
        consumers = raw_events::consume(stage, app, &events).await?;
        let (app, handled) = (place.sidecar(stage, OURS).await?, Arc::new(Handled::default()));
        stage.keep_bridge(consumer(&app.url, &handled, PREFETCH.into()).await?);
        consumed = Some(Consumed::new(handled, async || Ok(())));
    }
    raw_events::add(stage, &publisher.url, events, &consumers)?;
    let bridge = sender(&publisher.url).await?;
    stage.add(ours::events("ours", IN_FLIGHT, consumed, &bridge)?);
    stage.keep_bridge(bridge);
    Ok(())
}

/// Returns what the bridge sends when it emits.
async fn event(sidecar: &str) -> anyhow::Result<Sent> {
    let mut wire = Wire::listen(sidecar).await?;
    let bridge = sender(wire.url()).await?;
    bridge.emit_message(ours::event()?, &EmitOptions::default()).await?;
    let event = wire.next().await?;
    bridge.shutdown(Duration::from_secs(5)).await;
    Ok(event)
}

/// Publishes all that the bridge has.
fn whole_wire(sent: Sent) -> RawEvent {
    let is_raw = sent.path.contains("rawPayload=true");
    RawEvent { name: "raw-c", headers: sent.headers, body: sent.body, is_raw, is_cloud_event: true }
}

/// Makes sure that everything was acknowledged, as soon as nobody consumes any more.
async fn drained(server: Arc<RabbitServer>, vhost: &str) -> anyhow::Result<()> {
    let management = server.management();
    for queue in management.queues(vhost).await? {
        // Whoever is gone has left what was not acknowledged.
        while management.queues(vhost).await?.iter().any(|queue| queue.consumers > 0) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let left = management.get_messages(vhost, &queue.name, 1, true).await?;
        ensure!(left.is_empty(), "{} has messages left", queue.name);
    }
    management.delete_vhost(vhost).await
}
