//! Acknowledged events.

use std::sync::Arc;

use purista_core::{EmitOptions, EventBridge as _};
use purista_integration_tests::bench::{Contender, Handled, Stage, ours};

use crate::{
    bridge::bridge,
    jetstream::{self, BATCH, Publisher},
    wire::{Wire, with_prefix},
};

/// How many events wait for the acknowledgement of the server at once.
const IN_FLIGHT: usize = 512;

/// Sets up events with so many consumers that share them; none if it is zero.
pub(crate) async fn set_up(url: String, consumers: usize) -> anyhow::Result<Stage> {
    let prefix = format!("events{consumers}");
    let client = async_nats::connect(&url).await?;
    let context = async_nats::jetstream::new(client.clone());
    let emitter = bridge(&url, &prefix).await?;
    let stream = format!("{prefix}-events");
    let mut stage = Stage::default();
    let mut streams = vec![stream.clone()];

    let handled = Arc::new(Handled::default());
    for _ in 0..consumers {
        let bridge = bridge(&url, &prefix).await?;
        ours::subscribe(&*bridge, &handled, BATCH).await?;
        stage.keep_bridge(bridge);
    }
    let mut wire = Wire::listen(&client, &prefix, "custom_message").await?;
    emitter.emit_message(ours::event()?, &EmitOptions::default()).await?;
    let event = wire.next().await?;
    drop(wire);
    let consumer = match consumers {
        0 => None,
        _ => Some(jetstream::only_consumer(&context, &stream).await?),
    };
    let consumed = match &consumer {
        Some(consumer) => {
            handled.reach(1).await;
            Some((handled, jetstream::find_consumer(&context, &stream, consumer).await?))
        }
        None => None,
    };

    let config = context.get_stream(&stream).await?.cached_info().config.clone();
    let payload = ours::payload()?;
    for (name, subject, payload) in [
        ("raw-a", "raw-a.event".to_owned(), payload),
        ("raw-b", "raw-b.event".to_owned(), event.payload.clone()),
        ("raw-c", with_prefix("raw-c", &event.subject), event.payload),
    ] {
        let stream = format!("{name}-events");
        let is_whole_wire = name == "raw-c";
        let subjects = match is_whole_wire {
            true => config.subjects.iter().map(|subject| with_prefix(name, subject)).collect(),
            false => vec![subject.clone()],
        };
        jetstream::copy_stream(&context, &config, &stream, subjects).await?;
        streams.push(stream.clone());
        let raw_consumed = match (&consumer, &consumed) {
            (Some(consumer), Some((_, of_ours))) => {
                let config = of_ours.cached_info().config.clone();
                let config = async_nats::jetstream::consumer::FromConsumer::try_from_consumer_config(config);
                let config: async_nats::jetstream::consumer::pull::Config =
                    config.map_err(anyhow::Error::from_boxed)?;
                let filter = match is_whole_wire {
                    true => with_prefix(name, &config.filter_subject),
                    false => subject.clone(),
                };
                jetstream::copy_consumer(&context, &config, &stream, filter).await?;
                let handled = Arc::new(Handled::default());
                for _ in 0..consumers {
                    stage.keep_task(jetstream::consume(&url, &stream, consumer, &handled).await?);
                }
                let consumer = jetstream::find_consumer(&context, &stream, consumer).await?;
                Some(jetstream::consumed(handled, consumer))
            }
            _ => None,
        };
        let publisher = Arc::new(Publisher::connect(&url, &subject, payload).await?);
        stage.add(Contender::of_events(name, IN_FLIGHT, raw_consumed, move || {
            let publisher = Arc::clone(&publisher);
            async move { publisher.publish().await }
        }));
    }
    let consumed = consumed.map(|(handled, consumer)| jetstream::consumed(handled, consumer));
    stage.add(ours::events("ours", IN_FLIGHT, consumed, &emitter)?);
    stage.keep_bridge(emitter);
    stage.at_end(async move {
        for name in streams {
            context.delete_stream(name).await?;
        }
        Ok(())
    });
    Ok(stage)
}
