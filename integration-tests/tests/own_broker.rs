//! A broker and the network before it, as a trial of the suite uses them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use purista_conformance::{Broker, NetworkFault};
use purista_core::ServiceAddress;
use purista_integration_tests::{
    FaultProxy, OwnBroker,
    nats::{NatsConfig, NatsServer},
};

#[tokio::test]
async fn a_trial_breaks_its_own_broker() -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::core()).await?;
    let proxy = FaultProxy::start(server.address())?;
    let url = server.url_through(&proxy);
    let cancelled = Arc::<Mutex<Vec<ServiceAddress>>>::default();
    let note = Arc::clone(&cancelled);
    let own = OwnBroker::new(server.process()?.clone(), proxy, move |subscriber| {
        note.lock().push(subscriber);
        async { Ok(()) }
    });
    let broker: &dyn Broker = &own;
    let connect = || async { async_nats::connect(url.as_str()).await };

    connect().await?;
    ensure!(broker.connection_attempts() == 1);
    broker.break_network(NetworkFault::Down);
    connect().await.unwrap_err();
    broker.mend_network();
    connect().await?;

    broker.terminate().await?;
    let error = broker.kill().await.err().context("killed what does not run")?;
    ensure!(format!("{error}").contains("nats-server does not run"), "{error}");
    connect().await.unwrap_err();
    broker.wipe().await?;
    broker.start().await?;
    connect().await?;
    broker.kill().await?;

    let subscriber = ServiceAddress::new("Mail", "1", "welcome");
    broker.cancel_consumer(&subscriber).await?;
    ensure!(*cancelled.lock() == [subscriber]);
    Ok(())
}
