//! Acknowledged events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use purista_core::{EmitOptions, EventBridge as _};

use crate::{
    contender::{Contender, Sample, Stage},
    drive,
    handled::Handled,
    jetstream::{self, Publisher},
    ours,
    wire::{Wire, with_prefix},
};

/// How many events wait for the acknowledgement of the server at once.
const IN_FLIGHT: usize = 512;

/// Sets up events with so many consumers that share them; none if it is zero.
pub(crate) async fn set_up(url: String, consumers: usize) -> anyhow::Result<Stage> {
    let prefix = format!("events{consumers}");
    let client = async_nats::connect(&url).await?;
    let context = async_nats::jetstream::new(client.clone());
    let emitter = ours::bridge(&url, &prefix).await?;
    let stream = format!("{prefix}-events");
    let mut stage = Stage { bridges: vec![Arc::clone(&emitter)], ..Stage::default() };
    let mut streams = vec![stream.clone()];

    let handled = Arc::new(Handled::new());
    for _ in 0..consumers {
        let bridge = ours::bridge(&url, &prefix).await?;
        ours::subscribe(&bridge, &handled).await?;
        stage.bridges.push(bridge);
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
    let payload = Bytes::copy_from_slice(ours::payload()?.get().as_bytes());
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
                let handled = Arc::new(Handled::new());
                for _ in 0..consumers {
                    stage.tasks.push(jetstream::consume(&url, &stream, consumer, &handled).await?);
                }
                Some((handled, jetstream::find_consumer(&context, &stream, consumer).await?))
            }
            _ => None,
        };
        let publisher = Arc::new(Publisher::connect(&url, &subject, payload).await?);
        stage.contenders.push(contender(name, raw_consumed, move || {
            let publisher = Arc::clone(&publisher);
            async move { publisher.publish().await }
        }));
    }
    let draft = ours::event()?;
    stage.contenders.push(contender("ours", consumed, move || {
        let (emitter, draft) = (Arc::clone(&emitter), draft.clone());
        async move {
            emitter.emit_message(draft, &EmitOptions::default()).await?;
            Ok(())
        }
    }));
    stage.streams = Some((context, streams));
    Ok(stage)
}

fn contender<C, F>(name: &'static str, consumed: Option<(Arc<Handled>, PullConsumer)>, emit: C) -> Contender
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    Contender::new(name, move |time| {
        let (consumed, emit) = (consumed.clone(), emit.clone());
        async move {
            match consumed {
                None => drive::per_second(IN_FLIGHT, time, emit).await,
                Some((handled, consumer)) => round(time, emit, &handled, consumer).await,
            }
        }
    })
}

/// Emits for a time; the round ends when all is handled and acknowledged.
async fn round<C, F>(
    time: Duration,
    emit: C,
    handled: &Handled,
    mut consumer: PullConsumer,
) -> anyhow::Result<Sample>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (before, begin) = (handled.count(), Instant::now());
    let emitted = drive::in_flight(IN_FLIGHT, time, emit).await?;
    handled.reach(before + emitted).await;
    jetstream::settle(&mut consumer).await?;
    let sample = drive::rate(emitted, begin);
    ensure!(handled.count() == before + emitted, "more was handled than emitted");
    Ok(sample)
}
