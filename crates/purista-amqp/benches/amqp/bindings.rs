//! Requests and replies, of one command among many.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use purista_core::ServiceAddress;
use purista_integration_tests::{
    bench::{Stage, ours},
    rabbitmq::RabbitServer,
};

use crate::{
    bridge::{Topology, bridge},
    raw_calls,
    wire::{connect, declare_exclusive, own_vhost},
};

const IN_FLIGHT: usize = 64;

/// How many commands are registered at once.
const REGISTERED_AT_ONCE: usize = 16;

const CONTENDERS: [(usize, [&str; 3]); 3] = [
    (1, ["raw-1", "native-1", "typescript-1"]),
    (100, ["raw-100", "native-100", "typescript-100"]),
    (1_000, ["raw-1000", "native-1000", "typescript-1000"]),
];

pub(crate) async fn set_up(server: Arc<RabbitServer>) -> anyhow::Result<Stage> {
    let mut stage = Stage::default();
    let url = own_vhost(&server, &mut stage, "bindings".to_owned()).await?;
    for (commands, [raw, native, typescript]) in CONTENDERS {
        let (connection, channel) = connect(&url).await?;
        for number in 1..commands {
            declare_exclusive(&channel, &format!("{raw}.{number}")).await?;
        }
        stage.at_end(async move { Ok(connection.close(200, "done".into()).await?) });
        let payload = ours::payload()?;
        raw_calls::add(&mut stage, raw, &url, IN_FLIGHT, [payload.clone(), payload]).await?;
        add(&mut stage, native, &url, commands, Topology::Native).await?;
        add(&mut stage, typescript, &url, commands, Topology::TypeScript).await?;
    }
    Ok(stage)
}

async fn add(
    stage: &mut Stage,
    name: &'static str,
    url: &str,
    commands: usize,
    topology: Topology,
) -> anyhow::Result<()> {
    let (caller, service) = (bridge(url, name, topology).await?, bridge(url, name, topology).await?);
    let begin = Instant::now();
    let others = (1..commands).map(|number| ServiceAddress::new("Bench", "1", format!("other{number}")));
    let all = stream::iter(others.chain([ours::echo()]));
    let registered = all.map(|command| ours::serve(&*service, command)).buffer_unordered(REGISTERED_AT_ONCE);
    registered.try_collect::<()>().await?;
    stage.note(format!("{name}: {commands} registered in {:.1} s", begin.elapsed().as_secs_f64()));
    stage.add(ours::calls(name, IN_FLIGHT, &caller)?);
    stage.keep_bridge(caller);
    stage.keep_bridge(service);
    Ok(())
}
