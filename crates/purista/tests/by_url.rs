//! What a URL says takes effect at real brokers.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use purista::prelude::*;
use purista_integration_tests::{
    mosquitto::{MosquittoConfig, MosquittoServer},
    nats::{NatsConfig, NatsServer},
};

/// Connects by a URL with options behind `mark`: bridges with one prefix hear each other, under the instance ids that they
/// were given, and one with another prefix is alone.
async fn options_take_effect(url: &str, mark: char) -> Result<()> {
    let with = |prefix: &str, instance_id: &str| -> Result<Arc<dyn EventBridge>> {
        Ok(purista::connect(format!(
            "{url}{mark}prefix={prefix}&instance_id={instance_id}&connect_timeout=30s"
        ))?)
    };
    let who = |context: Context, (): ()| async move { Ok(context.message().sender.instance_id.to_string()) };
    let server = with("acme", "a%2Fserver")?;
    server.serve([Service::new("Who", "1").command("asks", who)]).await?;
    let client = with("acme", "a%2Fclient")?;
    client.start().await?;
    let asker: String = client.invoke(("Who", "1", "asks"), &()).await?;
    ensure!(asker == "a/client" && server.instance_id() == "a/server", "{asker}");
    let stranger = with("other", "a%2Fstranger")?;
    stranger.start().await?;
    let nobody = stranger.invoke::<String>(("Who", "1", "asks"), &()).await;
    let kind = match &nobody {
        Err(InvokeError::Bridge(error)) => Some(error.kind()),
        _ => None,
    };
    ensure!(kind == Some(ErrorKind::NoHandler), "{nobody:?}");
    for bridge in [stranger, client, server] {
        let report = bridge.shutdown(purista::DRAIN_TIME).await;
        ensure!(report.is_clean(), "{report:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_nats() -> Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    options_take_effect(server.url(), '?').await?;
    // As a list, and without a scheme.
    let host = server.url().strip_prefix("nats://").context("its scheme")?;
    options_take_effect(&format!("{host},{host}"), '?').await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_mosquitto() -> Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::tuned().with_websockets()).await?;
    options_take_effect(server.url(), '?').await?;
    let socket = server.websocket_url().context("it has a WebSocket")?;
    options_take_effect(&format!("mqtt+{socket}?sig=a%2Bb"), '#').await
}
