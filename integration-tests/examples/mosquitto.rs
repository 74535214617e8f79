//! Starts a Mosquitto on free ports and tells its URL. The server ends with this process.

#![expect(clippy::print_stdout, reason = "it tells the URL")]

use purista_integration_tests::mosquitto::{MosquittoConfig, MosquittoServer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::tuned()).await?;
    println!("{}", server.url());
    std::future::pending().await
}
