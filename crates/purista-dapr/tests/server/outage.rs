use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use purista_core::{
    CommandDraft, Context, ErrorKind, EventBridge, EventBridgeExt as _, Filter, InvokeOptions, Payload,
    Service, ServiceAddress,
};
use purista_integration_tests::dapr::Component;

use crate::support::{PATIENCE, Place, Seen, beside, connected, disconnected};

#[tokio::test]
async fn a_sidecar_that_comes_back_delivers_again() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let sidecar = place.sidecar("app-greeter-v1").await?;
    let bridge = beside(&sidecar).build()?;
    let seen = Seen::default();
    let watcher = seen.clone();
    let service = Service::new("Greeter", "1")
        .command("greet", |_ctx: Context, name: String| async move { Ok(name) })
        .subscription("watch", Filter::event("greeted"), move |_ctx: Context, payload: Payload| {
            watcher.push(payload.as_str());
            async { Ok(()) }
        });
    bridge.serve([service]).await?;
    let mut events = bridge.events();
    sidecar.process().kill().await?;
    let draft = CommandDraft::new(ServiceAddress::client(), ("Greeter", "1", "greet"));
    let short = InvokeOptions::default().with_timeout(Duration::from_millis(300));
    let error = bridge.invoke_command(draft, &short).await.err().context("an answer")?;
    let is_told = |kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
    ensure!(error.bridge_kind().is_some_and(is_told), "{error:?}");
    disconnected(&mut events).await?;
    ensure!(!bridge.health().is_ready());

    sidecar.process().start_again().await?;
    connected(&mut events).await?;
    ensure!(bridge.health().is_healthy());
    bridge.event("greeted").timeout(PATIENCE).emit(&1).await?;
    ensure!(seen.at_least(1).await? == ["1"]);
    let _: String = bridge.invoke(("Greeter", "1", "greet"), "Ada").await?;
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn an_emit_waits_for_a_component_that_was_there() -> anyhow::Result<()> {
    let sidecar = Place::new(Component::InMemory)?.sidecar("app-user-v1").await?;
    let bridge = beside(&sidecar).build()?;
    bridge.start().await?;
    let mut events = bridge.events();
    bridge.event("userCreated").timeout(PATIENCE).emit(&1).await?;

    // As when it ends: its API still answers then.
    let component = sidecar.process().folder().join("resources/pubsub.yaml");
    let text = fs::read(&component)?;
    fs::remove_file(&component)?;
    let goes_and_comes = async {
        let reason = disconnected(&mut events).await?;
        ensure!(reason.contains("no component pubsub"), "{reason}");
        fs::write(&component, text)?;
        connected(&mut events).await
    };
    let fails = async {
        loop {
            if let Err(error) = bridge.event("userCreated").timeout(PATIENCE).emit(&2).await {
                return error;
            }
        }
    };
    tokio::select! {
        came_back = goes_and_comes => came_back?,
        error = fails => return Err(error.into()),
    }
    ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    bridge.event("userCreated").timeout(PATIENCE).emit(&3).await?;
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test]
async fn an_emit_without_a_component_is_refused() -> anyhow::Result<()> {
    let sidecar = Place::new(Component::InMemory)?.sidecar("app-user-v1").await?;
    let bridge = beside(&sidecar).pubsub_name("other").build()?;
    bridge.start().await?;
    let error = bridge.event("userCreated").timeout(PATIENCE).emit(&1).await.err().context("taken over")?;
    ensure!(error.kind() == ErrorKind::InvalidConfig, "{error:?}");
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
