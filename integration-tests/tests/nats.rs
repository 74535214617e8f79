//! A real nats-server that is ended, killed, started again and wiped.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use purista_integration_tests::nats::{NatsConfig, NatsServer};
use tokio::time::timeout;

async fn publish(url: &str, messages: u64) -> anyhow::Result<()> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let config =
        stream::Config { name: "kept".into(), subjects: vec!["kept.>".into()], ..Default::default() };
    jetstream.get_or_create_stream(config).await?;
    for number in 0..messages {
        jetstream.publish(format!("kept.{number}"), "x".into()).await?.await?;
    }
    Ok(())
}

/// Returns how many messages the stream has, or `None` without the stream.
async fn kept(url: &str) -> anyhow::Result<Option<u64>> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    match jetstream.get_stream("kept").await {
        Ok(mut stream) => Ok(Some(stream.info().await?.state.messages)),
        Err(error) if error.to_string().contains("not found") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn data_outlive_the_process_until_they_are_wiped() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    publish(server.url(), 10).await?;
    let process = server.process()?;
    let first = process.id().context("does not run")?;

    process.kill().await?;
    ensure!(process.id().is_none());
    async_nats::connect(server.url()).await.unwrap_err();
    process.start_again().await?;
    ensure!(process.id().context("does not run")? != first);
    ensure!(kept(server.url()).await? == Some(10));

    process.wipe().await.unwrap_err();
    process.start_again().await.unwrap_err();
    process.terminate().await?;
    process.terminate().await.unwrap_err();
    process.start_again().await?;
    ensure!(kept(server.url()).await? == Some(10));

    process.kill().await?;
    process.wipe().await?;
    process.start_again().await?;
    ensure!(kept(server.url()).await? == None);

    let folder = process.folder().to_owned();
    drop(server);
    ensure!(!folder.exists());
    Ok(())
}

#[test]
fn a_shared_server_outlives_the_runtime_that_started_it() -> anyhow::Result<()> {
    let on_its_own_runtime = |jetstream| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let outcome = runtime.block_on(async {
            let server = NatsServer::shared(jetstream).await?;
            let info = server.monitor().info().await?;
            async_nats::connect(server.url()).await?.flush().await?;
            anyhow::Ok((server.address(), info.jetstream))
        });
        runtime.shutdown_background();
        outcome
    };
    let (first, jetstream) = on_its_own_runtime(true)?;
    ensure!(jetstream);
    ensure!(on_its_own_runtime(true)?.0 == first);
    // One that somebody else runs may be both.
    ensure!(std::env::var_os("PURISTA_NATS_URL").is_some() || on_its_own_runtime(false)?.0 != first);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() -> anyhow::Result<()> {
    let config = NatsConfig::core().with_lines("max_payload: nonsense");
    let began = Instant::now();
    let error = NatsServer::start(config).await.err().context("started")?;
    ensure!(began.elapsed() < Duration::from_secs(10));
    ensure!(format!("{error:#}").contains("nats.conf:4"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn the_monitor_sees_connections_with_their_subscriptions() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::core()).await?;
    let options = async_nats::ConnectOptions::new().name("watched");
    let client = options.connect(server.url()).await?;
    let _one = client.queue_subscribe("work.*", "workers".into()).await?;
    let mut all = client.subscribe("orders.>").await?;
    // It comes back once the server knows what was said before.
    client.publish("orders.1", "x".into()).await?;
    timeout(Duration::from_secs(20), all.next()).await?.context("closed")?;

    let connections = server.monitor().connections().await?;
    ensure!(connections.len() == 1);
    ensure!(connections[0].name == "watched");
    let mut seen: Vec<_> =
        connections[0].subscriptions.iter().map(|s| (s.subject.as_str(), s.queue.as_deref())).collect();
    seen.sort_unstable();
    ensure!(seen == [("orders.>", None), ("work.*", Some("workers"))], "{seen:?}");
    server.monitor().health().await
}
