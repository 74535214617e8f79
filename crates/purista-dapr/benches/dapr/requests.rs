//! Requests and replies.

use std::time::Duration;

use anyhow::Context as _;
use purista_core::{EventBridge as _, InvokeOptions};
use purista_integration_tests::{
    bench::{Stage, ours},
    dapr::Component,
};

use crate::{
    bridge::{sender, service},
    place::{OURS, Place, RAW, SENDER},
    raw_calls::{self, RawCall},
    wire::{Sent, Wire},
};

/// Sets up requests, so many in flight; one by one if it is one.
pub(crate) async fn set_up(in_flight: usize) -> anyhow::Result<Stage> {
    let (place, mut stage) = (Place::new(Component::InMemory)?, Stage::default());
    let caller = place.sidecar(&mut stage, SENDER).await?;
    let app = place.sidecar(&mut stage, OURS).await?;
    stage.keep_bridge(service(&app.url).await?);

    let raw_app = place.sidecar(&mut stage, RAW).await?;
    let calls = vec![RawCall::bare("raw-a", &ours::payload()?), whole_wire(call(&caller.url).await?)?];
    raw_calls::add(&mut stage, &caller.url, raw_app, in_flight, calls).await?;

    let bridge = sender(&caller.url).await?;
    stage.add(ours::calls("ours", in_flight, &bridge)?);
    stage.keep_bridge(bridge);
    Ok(stage)
}

/// Returns what the bridge sends when it calls, and gets.
async fn call(sidecar: &str) -> anyhow::Result<Sent> {
    let mut wire = Wire::listen(sidecar).await?;
    let bridge = sender(wire.url()).await?;
    bridge.invoke_command(ours::call()?, &InvokeOptions::default()).await?;
    let call = wire.next().await?;
    bridge.shutdown(Duration::from_secs(5)).await;
    Ok(call)
}

/// Sends and answers all that the bridge has.
fn whole_wire(sent: Sent) -> anyhow::Result<RawCall> {
    let (_, path) = sent.path.split_once("/method").context("a call names its method")?;
    let (path, headers, request, reply) = (path.to_owned(), sent.headers, sent.body, sent.answer);
    Ok(RawCall { name: "raw-c", path, headers, request, reply })
}
