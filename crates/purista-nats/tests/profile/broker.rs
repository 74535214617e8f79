use std::sync::Arc;

use purista_conformance::{Broker, NetworkFault};
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use purista_integration_tests::{
    FaultProxy,
    nats::{NatsConfig, NatsServer},
};

use super::{deployment::cancel_consumer, wire::unavailable};

/// A server that one trial has alone, with a network before it that can be broken.
#[derive(Debug)]
pub(crate) struct OwnBroker {
    server: Arc<NatsServer>,
    proxy: FaultProxy,
    prefix: String,
}

impl OwnBroker {
    pub(crate) async fn start(config: NatsConfig, prefix: &str) -> Result<Self> {
        let server = Arc::new(NatsServer::start(config).await.map_err(unavailable)?);
        let proxy = FaultProxy::start(server.address()).map_err(unavailable)?;
        Ok(Self { server, proxy, prefix: prefix.to_owned() })
    }

    pub(crate) const fn server(&self) -> &Arc<NatsServer> {
        &self.server
    }

    /// Returns where bridges connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.proxy.address())
    }
}

#[async_trait]
impl Broker for OwnBroker {
    async fn terminate(&self) -> Result<()> {
        self.server.process().map_err(unavailable)?.terminate().await.map_err(unavailable)
    }

    async fn kill(&self) -> Result<()> {
        self.server.process().map_err(unavailable)?.kill().await.map_err(unavailable)
    }

    async fn start(&self) -> Result<()> {
        self.server.process().map_err(unavailable)?.start_again().await.map_err(unavailable)
    }

    async fn wipe(&self) -> Result<()> {
        self.server.process().map_err(unavailable)?.wipe().await.map_err(unavailable)
    }

    async fn cancel_consumer(&self, subscriber: &ServiceAddress) -> Result<()> {
        cancel_consumer(self.server.url(), &self.prefix, subscriber).await
    }

    fn break_network(&self, how: NetworkFault) {
        self.proxy.break_network(how);
    }

    fn mend_network(&self) {
        self.proxy.mend();
    }

    fn connection_attempts(&self) -> usize {
        self.proxy.connection_attempts()
    }
}
