use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use purista_core::{Context, ErrorKind, EventBridge as _, EventBridgeExt as _, Service};
use purista_integration_tests::{
    dapr::{Component, Sidecar},
    free_port,
};
use reqwest::{Client, StatusCode};
use tokio::{net::TcpStream, sync::Notify};

use crate::support::{Place, Seen, beside};

#[tokio::test]
async fn what_runs_is_finished_and_new_work_is_sent_elsewhere() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let port = free_port()?;
    let config = place.config("app-slow-v1")?.with_argument(format!("--app-port={port}"));
    let (sidecar, caller) = (Sidecar::start(config).await?, place.sidecar("caller").await?);
    let (bridge, client) = (Arc::new(beside(&sidecar).build()?), Arc::new(beside(&caller).build()?));
    let (started, go) = (Seen::default(), Arc::new(Notify::new()));
    let (starts, goes) = (started.clone(), Arc::clone(&go));
    let service = Service::new("Slow", "1").command("wait", move |_ctx: Context, name: String| {
        let goes = Arc::clone(&goes);
        starts.push(name.clone());
        async move {
            goes.notified().await;
            Ok(name)
        }
    });
    bridge.serve([service]).await?;
    client.start().await?;
    // Who says nothing keeps nobody from ending.
    let _silent = TcpStream::connect(("127.0.0.1", port)).await?;

    let caller = Arc::clone(&client);
    let running = tokio::spawn(async move { caller.invoke::<String>(("Slow", "1", "wait"), "first").await });
    started.at_least(1).await?;
    let ending = Arc::clone(&bridge);
    let ended = tokio::spawn(async move { ending.shutdown(Duration::from_secs(10)).await });
    let http = Client::builder().no_proxy().build()?;
    let healthz = format!("http://127.0.0.1:{port}/healthz");
    while http.get(&healthz).send().await?.status() != StatusCode::SERVICE_UNAVAILABLE {
        tokio::task::yield_now().await;
    }
    let refused = client.invoke::<String>(("Slow", "1", "wait"), "second").await.map_err(|e| e.bridge_kind());
    ensure!(refused == Err(Some(ErrorKind::Unavailable)), "{refused:?}");
    go.notify_one();
    ensure!(running.await?? == "first");
    let report = ended.await?;
    ensure!(report.errors.is_empty() && report.cancelled_handlers == 0, "{report:?}");
    ensure!(started.all() == ["first"]);
    ensure!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    client.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
