//! Requests and replies.

use std::sync::Arc;

use purista_core::{EventBridge as _, InvokeOptions};
use purista_integration_tests::{
    bench::{Stage, ours},
    rabbitmq::RabbitServer,
};

use crate::{
    bridge::{Topology, bridge},
    raw_calls,
    wire::{Wire, own_vhost},
    wire_calls,
};

/// Sets up requests, so many in flight; one by one if it is one.
pub(crate) async fn set_up(server: Arc<RabbitServer>, in_flight: usize) -> anyhow::Result<Stage> {
    let mut stage = Stage::default();
    let url = own_vhost(&server, &mut stage, format!("requests{in_flight}")).await?;
    let native = (bridge(&url, "n", Topology::Native).await?, bridge(&url, "n", Topology::Native).await?);
    let typescript =
        (bridge(&url, "t", Topology::TypeScript).await?, bridge(&url, "t", Topology::TypeScript).await?);
    ours::serve(&*native.1, ours::echo()).await?;
    ours::serve(&*typescript.1, ours::echo()).await?;

    let mut commands = Wire::listen(&url, "n.commands").await?;
    let mut responses = Wire::listen(&url, "n.responses").await?;
    native.0.invoke_command(ours::call()?, &InvokeOptions::default()).await?;
    let (command, response) = (commands.next().await?, responses.next().await?);
    drop((commands, responses));

    let payload = ours::payload()?;
    raw_calls::add(&mut stage, "raw-a", &url, in_flight, [payload.clone(), payload]).await?;
    let envelopes = [command.data.clone().into(), response.data.clone().into()];
    raw_calls::add(&mut stage, "raw-b", &url, in_flight, envelopes).await?;
    wire_calls::add(&mut stage, &url, in_flight, command, response).await?;
    for (name, (caller, service)) in [("native", native), ("typescript", typescript)] {
        stage.add(ours::calls(name, in_flight, &caller)?);
        stage.keep_bridge(caller);
        stage.keep_bridge(service);
    }
    Ok(stage)
}
