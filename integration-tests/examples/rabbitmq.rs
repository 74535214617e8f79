//! Starts a RabbitMQ on free ports and tells its URL. The server ends with this process.

#![expect(clippy::print_stdout, reason = "it tells the URL")]

use purista_integration_tests::rabbitmq::{RabbitConfig, RabbitServer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    println!("{}", server.url());
    std::future::pending().await
}
