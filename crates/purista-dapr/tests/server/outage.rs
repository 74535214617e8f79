use std::time::Duration;

use anyhow::{Context as _, ensure};
use purista_core::{
    BridgeEvent, CommandDraft, Context, ErrorKind, EventBridge, EventBridgeExt as _, Filter, InvokeOptions,
    Payload, Service, ServiceAddress,
};
use purista_integration_tests::dapr::Component;
use tokio::time::timeout;

use crate::support::{PATIENCE, Place, Seen, beside};

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
            watcher.push(payload.get());
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
    let mut wait_for = async |is_it: fn(&BridgeEvent) -> bool| {
        let event = async {
            while let Some(event) = events.next().await {
                if is_it(&event) {
                    return;
                }
            }
        };
        timeout(PATIENCE, event).await
    };
    wait_for(|event| matches!(event, BridgeEvent::Disconnected(_))).await?;
    ensure!(!bridge.health().is_ready());

    sidecar.process().start_again().await?;
    wait_for(|event| *event == BridgeEvent::Connected).await?;
    ensure!(bridge.health().is_healthy());
    bridge.emit("greeted", &1).await?;
    ensure!(seen.at_least(1).await? == ["1"]);
    let _: String = bridge.invoke(("Greeter", "1", "greet"), "Ada").await?;
    bridge.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
