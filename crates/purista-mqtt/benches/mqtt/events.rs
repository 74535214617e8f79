//! Confirmed and acknowledged events.

use std::sync::Arc;

use anyhow::ensure;
use purista_core::{EmitOptions, EventBridge as _};
use purista_integration_tests::{
    bench::{Consumed, Handled, Stage, ours},
    mosquitto::MosquittoServer,
};
use rumqttc::{PublishProperties, ValidatedTopic};

use crate::{
    bridge::{bridge, durable_bridge},
    raw_events::{self, IN_FLIGHT, IN_HAND, Route},
    wire::Wire,
};

/// The group in which consumers share events.
const GROUP: &str = "bench";

/// Which level of an event's topic a subscription names, beside the first one: the event.
const NAMED: &[usize] = &[8];

/// Sets up events with so many consumers that share them; none if it is zero.
pub(crate) async fn set_up(server: Arc<MosquittoServer>, consumers: usize) -> anyhow::Result<Stage> {
    let (broker, url) = (server.address(), server.url());
    let prefix = format!("events{consumers}");
    let emitter = bridge(url, &prefix).await?;
    let mut wire = Wire::listen(broker, format!("{prefix}/custom_message/#")).await?;
    emitter.emit_message(ours::event()?, &EmitOptions::default()).await?;
    let event = wire.next().await?;
    drop(wire);

    // The sessions of other scenarios are kept, and must get nothing of this one.
    let bare = |name: &str, payload| {
        let topic = format!("{name}-{consumers}/event");
        let filter = format!("$share/{GROUP}/{topic}");
        let properties = PublishProperties::default();
        anyhow::Ok(Route { topic: ValidatedTopic::new(topic)?, payload, properties, filter })
    };
    let whole_wire_prefix = format!("raw-c-{consumers}");
    let whole_wire = Route {
        topic: event.topic(&whole_wire_prefix)?,
        filter: format!("$share/{GROUP}/{}", event.filter(&whole_wire_prefix, NAMED)),
        payload: event.payload.clone(),
        properties: event.properties,
    };
    let raw = [
        ("raw-a", bare("raw-a", ours::payload()?)?),
        ("raw-b", bare("raw-b", event.payload)?),
        ("raw-c", whole_wire),
    ];
    let mut stage = Stage::default();
    stage.at_end(drained(Arc::clone(&server)));
    for (name, route) in raw {
        raw_events::add(&mut stage, name, broker, consumers, route).await?;
    }
    let handled = Arc::new(Handled::default());
    for number in 0..consumers {
        let bridge = durable_bridge(url, &prefix, format!("consumer-{number}")).await?;
        ours::subscribe(&*bridge, &handled, usize::from(IN_HAND)).await?;
        stage.keep_bridge(bridge);
    }
    let consumed = (consumers > 0).then(|| Consumed::new(handled, async || Ok(())));
    stage.add(ours::events("ours", IN_FLIGHT, consumed, &emitter)?);
    stage.keep_bridge(emitter);
    Ok(stage)
}

/// Makes sure that everything was acknowledged.
async fn drained(server: Arc<MosquittoServer>) -> anyhow::Result<()> {
    let queued = server.queued().await?;
    ensure!(queued == 0, "{queued} messages are left");
    Ok(())
}
