//! What a sidecar or its component does not take, as it is too large or forbidden, fails alone and for good.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, stream};
use futures_util::future::try_join_all;
use purista_core::{
    CommandDraft, Context, EmitOptions, ErrorKind, EventBridge, EventBridgeExt as _, EventDraft, Filter,
    InvokeError, InvokeOptions, Payload, Result, Service, ServiceAddress,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::{
    dapr::{Component, Sidecar},
    nats::{NatsConfig, NatsServer},
};
use tokio::time::{Instant, timeout};

use crate::support::{PATIENCE, Place, Seen, beside};

const MIB: usize = 1_024 * 1_024;

/// What the sidecars of these tests take: a quarter of a mebibyte.
const MAX_BODY: usize = MIB / 4;

fn text(bytes: usize) -> Payload {
    Payload::from_json_text(format!("{:?}", "x".repeat(bytes))).expect("a payload")
}

async fn emit(bridge: &DaprBridge, event: &str, payload: Payload) -> Result<()> {
    let draft = EventDraft::event(ServiceAddress::client(), event).with_payload(payload);
    bridge.emit_message(draft, &EmitOptions::default().with_timeout(PATIENCE)).await.map(drop)
}

async fn call(bridge: &DaprBridge, target: &str, payload: Payload) -> Result<usize, InvokeError> {
    let draft = CommandDraft::new(ServiceAddress::client(), ("Echo", "1", target)).with_payload(payload);
    let answer = bridge.invoke_command(draft, &InvokeOptions::default().with_timeout(PATIENCE)).await?;
    Ok(answer.payload().map_or(0, |payload| payload.as_str().len()))
}

/// Emits many small events and one that fails, at once; returns how it fails, and how soon.
async fn among_others(
    bridge: &Arc<DaprBridge>,
    fails: impl Future<Output = Result<()>> + Send + 'static,
) -> anyhow::Result<(ErrorKind, Duration)> {
    let small = |number: usize| {
        let bridge = Arc::clone(bridge);
        async move { emit(&bridge, "small", Payload::json(&number)?).await }
    };
    let began = Instant::now();
    let fails = tokio::spawn(async move { (fails.await, began.elapsed()) });
    try_join_all((0..200).map(small)).await?;
    let (failed, took) = fails.await?;
    Ok((failed.err().context("it was taken")?.kind(), took))
}

/// Subscribes to the small events, so that it shows whether they arrive.
fn watcher(seen: &Seen) -> Service {
    let seen = seen.clone();
    Service::new("Echo", "1")
        .command("echo", |_ctx: Context, input: Payload| async move { Ok(input) })
        .command("grow", |_ctx: Context, bytes: usize| async move { Ok(text(bytes)) })
        .subscription("small", Filter::event("small"), move |_ctx: Context, payload: Payload| {
            seen.push(payload.as_str());
            async { Ok(()) }
        })
}

fn is_too_large(kind: ErrorKind, size: usize) -> bool {
    matches!(kind, ErrorKind::PayloadTooLarge { size: told, limit, .. } if told >= size && limit < told)
        && !kind.is_temporary()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sidecar_does_not_take_is_too_large() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let start = async |app_id| Sidecar::start(place.config(app_id)?.with_max_body_size(MAX_BODY)).await;
    let (sidecar, other) = (start("app-echo-v1").await?, start("caller").await?);
    let bridge = Arc::new(beside(&sidecar).max_payload(64 * MIB).build()?);
    let client = Arc::new(beside(&other).max_payload(64 * MIB).build()?);
    let seen = Seen::default();
    bridge.serve([watcher(&seen)]).await?;
    client.start().await?;

    // A little and far beyond the limit: the sidecar answers before it has read all of the latter.
    for bytes in [MAX_BODY, MIB, 48 * MIB] {
        let large = Arc::clone(&bridge);
        let emitted = async move { emit(&large, "large", text(bytes)).await };
        let (kind, took) = among_others(&bridge, emitted).await?;
        ensure!(is_too_large(kind, bytes), "{bytes}: {kind:?}");
        ensure!(took < PATIENCE * 9 / 10, "{bytes}: {took:?}");

        for caller in [&bridge, &client] {
            let began = Instant::now();
            let (small, large) =
                tokio::join!(call(caller, "echo", text(10)), call(caller, "echo", text(bytes)));
            ensure!(small.is_ok(), "{small:?}");
            let kind = large.err().and_then(|error| error.bridge_kind()).context("an answer")?;
            ensure!(is_too_large(kind, bytes), "{bytes}: {kind:?}");
            ensure!(began.elapsed() < PATIENCE * 9 / 10, "{bytes}: {:?}", began.elapsed());
        }
    }
    let all = timeout(PATIENCE, seen.at_least(600)).await??;
    ensure!(all.len() == 600, "{}", all.len());

    // Answers have no limit there.
    ensure!(call(&client, "grow", Payload::json(&(2 * MIB))?).await.ok() == Some(2 * MIB + 2));
    ensure!(bridge.health().is_healthy() && client.health().is_healthy());
    client.shutdown(PATIENCE).await;
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

/// RabbitMQ's component, as it is in Dapr 1.18.1, says nothing of what its broker refuses.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_behind_the_component_does_not_take_is_too_large() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream().with_lines("max_payload: 65536")).await?;
    let jetstream = jetstream::new(async_nats::connect(server.url()).await?);
    let subjects = vec!["small".into(), "large".into()];
    jetstream.create_stream(stream::Config { name: "all".into(), subjects, ..Default::default() }).await?;
    let place = Place::new(Component::JetStream { url: server.url().into() })?;
    let sidecar = place.sidecar("app-echo-v1").await?;
    let bridge = Arc::new(beside(&sidecar).build()?);
    let seen = Seen::default();
    bridge.serve([watcher(&seen)]).await?;

    let large = Arc::clone(&bridge);
    let (kind, took) =
        among_others(&bridge, async move { emit(&large, "large", text(100_000)).await }).await?;
    ensure!(is_too_large(kind, 100_000), "{kind:?}");
    ensure!(took < PATIENCE * 9 / 10, "{took:?}");
    seen.at_least(200).await?;
    ensure!(bridge.health().is_healthy());
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_component_forbids_fails_alone() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    for (setting, value) in
        [("allowedTopics", "small"), ("publishingScopes", "app-echo-v1=small"), ("protectedTopics", "large")]
    {
        let config = place.config("app-echo-v1")?.with_component_metadata(setting, value);
        let sidecar = Sidecar::start(config).await?;
        let bridge = Arc::new(beside(&sidecar).build()?);
        let seen = Seen::default();
        bridge.serve([watcher(&seen)]).await?;
        let forbidden = Arc::clone(&bridge);
        let emitted = async move { emit(&forbidden, "large", text(10)).await };
        let (kind, _) = among_others(&bridge, emitted).await?;
        ensure!(kind == ErrorKind::Forbidden, "{setting}: {kind:?}");
        ensure!(call(&bridge, "echo", text(10)).await.is_ok());
        seen.at_least(200).await?;
        bridge.shutdown(PATIENCE).await;
    }
    Ok(())
}
