//! Confirmed and acknowledged events.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use lapin::{
    BasicProperties, Channel,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use purista_amqp::AmqpBridge;
use purista_core::{EmitOptions, EventBridge as _};
use purista_integration_tests::{
    bench::{Consumed, Contender, Handled, Stage, ours},
    rabbitmq::RabbitServer,
};

use crate::{
    bridge::{Topology, bridge},
    raw_events::{PREFETCH, Publisher, Route, bind_as_native, consume, declare},
    wire::{Wire, bind, connect, own_vhost},
};

/// How many events wait for the confirm of the server at once.
const IN_FLIGHT: usize = 512;

/// How many messages the queue has that nobody reads.
const LIMIT: i32 = 1_000;

const PERSISTENT: u8 = 2;

/// Sets up events with so many consumers that share them; a queue that nobody reads if it is zero.
pub(crate) async fn set_up(server: Arc<RabbitServer>, consumers: usize) -> anyhow::Result<Stage> {
    let (mut stage, vhost) = (Stage::default(), format!("events{consumers}"));
    let url = own_vhost(&server, &mut stage, vhost.clone()).await?;
    if consumers > 0 {
        stage.at_end(drained(server, vhost));
    }
    let (connection, channel) = connect(&url).await?;
    stage.at_end(async move { Ok(connection.close(200, "done".into()).await?) });

    let native = bridge(&url, "n", Topology::Native).await?;
    let mut wire = Wire::listen(&url, "n.events").await?;
    native.emit_message(ours::event()?, &EmitOptions::default()).await?;
    let event = wire.next().await?;
    drop(wire);

    let bare = |name: &str| -> anyhow::Result<Route> {
        Ok(Route {
            exchange: "".into(),
            key: name.into(),
            properties: BasicProperties::default().with_delivery_mode(PERSISTENT),
            payload: ours::payload()?,
        })
    };
    let whole_wire = Route {
        exchange: "raw-c.events".into(),
        key: event.routing_key.clone(),
        properties: event.properties,
        payload: event.data.into(),
    };
    let raw =
        [("raw-quorum", bare("raw-quorum")?), ("raw-classic", bare("raw-classic")?), ("raw-c", whole_wire)];
    for (name, route) in raw {
        let is_quorum = name != "raw-classic";
        if consumers == 0 && !is_quorum {
            continue;
        }
        let queue = declare(&channel, name, is_quorum, (consumers == 0).then_some(LIMIT)).await?;
        if name == "raw-c" {
            bind_as_native(&channel, &queue, &route).await?;
        }
        let handled = Arc::new(Handled::default());
        for _ in 0..consumers {
            stage.keep_task(consume(&url, &queue, &handled).await?);
        }
        let publisher = Arc::new(Publisher::connect(&url, route).await?);
        stage.add(Contender::of_events(name, IN_FLIGHT, consumed(handled, consumers), move || {
            let publisher = Arc::clone(&publisher);
            async move { publisher.publish().await }
        }));
    }

    let key = event.routing_key.as_str();
    add(&mut stage, &url, &channel, native, Ours::Native { key }, consumers).await?;
    let typescript = bridge(&url, "t", Topology::TypeScript).await?;
    add(&mut stage, &url, &channel, typescript, Ours::TypeScript, consumers).await?;
    Ok(stage)
}

/// Which of ours, and how it routes.
enum Ours<'a> {
    Native { key: &'a str },
    TypeScript,
}

async fn add(
    stage: &mut Stage,
    url: &str,
    channel: &Channel,
    emitter: Arc<AmqpBridge>,
    ours: Ours<'_>,
    consumers: usize,
) -> anyhow::Result<()> {
    let (name, topology, prefix) = match ours {
        Ours::Native { .. } => ("native", Topology::Native, "n"),
        Ours::TypeScript => ("typescript", Topology::TypeScript, "t"),
    };
    if consumers == 0 {
        let queue = declare(channel, name, true, Some(LIMIT)).await?;
        let mut arguments = FieldTable::default();
        match ours {
            Ours::Native { key } => bind(channel, &queue, "n.events", key, arguments).await?,
            Ours::TypeScript => {
                arguments.insert("x-match".into(), AMQPValue::LongString("all".into()));
                arguments.insert("eventName".into(), AMQPValue::LongString(ours::EVENT.into()));
                bind(channel, &queue, "t", "", arguments).await?;
            }
        }
    }
    let handled = Arc::new(Handled::default());
    for _ in 0..consumers {
        let bridge = bridge(url, prefix, topology).await?;
        ours::subscribe(&*bridge, &handled, PREFETCH).await?;
        stage.keep_bridge(bridge);
    }
    stage.add(ours::events(name, IN_FLIGHT, consumed(handled, consumers), &emitter)?);
    stage.keep_bridge(emitter);
    Ok(())
}

fn consumed(handled: Arc<Handled>, consumers: usize) -> Option<Consumed> {
    (consumers > 0).then(|| Consumed::new(handled, async || Ok(())))
}

/// Waits until nobody consumes any more, and makes sure that everything was acknowledged.
async fn drained(server: Arc<RabbitServer>, vhost: String) -> anyhow::Result<()> {
    let (_connection, channel) = connect(&server.url_of(&vhost)).await?;
    for queue in server.management().queues(&vhost).await? {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        loop {
            let found = channel.queue_declare((&*queue.name).into(), options, FieldTable::default()).await?;
            if found.consumer_count() == 0 {
                ensure!(found.message_count() == 0, "{} has {} left", queue.name, found.message_count());
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}
