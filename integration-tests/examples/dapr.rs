//! Starts three sidecars whose component is the RabbitMQ at the given URL, and tells their URLs: two for instances of the
//! service `User`, version 1, and one for a caller. They end with this process.

#![expect(clippy::print_stdout, reason = "it tells the URLs")]

use anyhow::Context as _;
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("usage: dapr AMQP-URL")?;
    let (component, registry) = (Component::RabbitMq { url }, Registry::new()?);
    let mut sidecars = Vec::new();
    for app_id in ["app-user-v1", "app-user-v1", "app-caller-v1"] {
        let config = SidecarConfig::new(app_id, free_port()?, component.clone(), &registry);
        let sidecar = Sidecar::start(config).await?;
        println!("dapr://{}", sidecar.address());
        sidecars.push(sidecar);
    }
    std::future::pending().await
}
