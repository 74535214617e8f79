//! Which certificates a TLS client and a real broker accept of each other.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::ConnectOptions;
use purista_conformance::{BrokerCertificate as Broker, ClientCertificate as Client};
use purista_integration_tests::{
    Certificates, FaultProxy,
    nats::{NatsConfig, NatsServer},
};
use tokio::time::timeout;

const CASES: [(Broker, Client, bool); 8] = [
    (Broker::Trusted, Client::NotAsked, true),
    (Broker::Trusted, Client::Right, true),
    (Broker::Trusted, Client::Missing, false),
    (Broker::Trusted, Client::OtherAuthority, false),
    (Broker::OtherAuthority, Client::NotAsked, false),
    (Broker::OtherHost, Client::NotAsked, false),
    (Broker::Expired, Client::NotAsked, false),
    (Broker::SelfSigned, Client::NotAsked, false),
];

#[tokio::test]
async fn only_the_right_ones_are_accepted() -> anyhow::Result<()> {
    for (broker, client, accepted) in CASES {
        let certificates = Certificates::create(broker, client)?;
        let server = NatsServer::start(NatsConfig::core().with_tls(&certificates)).await?;
        let mut options =
            ConnectOptions::new().require_tls(true).add_root_certificates(certificates.authority());
        if let Some(files) = certificates.client() {
            options = options.add_client_certificate(files.certificate, files.key);
        }
        let proxy = FaultProxy::start(server.address())?;
        let connected = timeout(Duration::from_secs(20), options.connect(server.url_through(&proxy))).await?;
        ensure!(connected.is_ok() == accepted, "{broker:?} and {client:?}: {connected:?}");
        ensure!(proxy.connection_attempts() > 0);
        if let Ok(connection) = connected {
            connection.flush().await?;
        }

        let process = server.process()?;
        process.terminate().await?;
        process.start_again().await.with_context(|| format!("{broker:?} and {client:?}"))?;
    }
    Ok(())
}
