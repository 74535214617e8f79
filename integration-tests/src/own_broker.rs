use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use purista_conformance::{Broker, NetworkFault, Stoppage};
use purista_core::{Error, ErrorKind, Result, ServiceAddress};

use crate::{FaultProxy, Process};

type CancelConsumer = Arc<dyn Fn(ServiceAddress) -> BoxFuture<'static, Result<()>> + Send + Sync>;
type BeforeKill = Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A broker that belongs to one trial, with a network before it that can be broken. Only how a consumer is taken away
/// is for the test profile to say.
pub struct OwnBroker {
    process: Process,
    proxy: FaultProxy,
    cancel_consumer: CancelConsumer,
    before_kill: Option<BeforeKill>,
    consumers_have_connections: bool,
    stoppages: Vec<Arc<dyn Stoppage>>,
}

impl OwnBroker {
    /// Puts both together; `cancel_consumer` does what [`Broker::cancel_consumer`] says.
    #[must_use]
    pub fn new<F>(
        process: Process,
        proxy: FaultProxy,
        cancel_consumer: impl Fn(ServiceAddress) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let cancel_consumer: CancelConsumer =
            Arc::new(move |subscriber| Box::pin(cancel_consumer(subscriber)));
        let stoppages: Vec<Arc<dyn Stoppage>> = vec![Arc::new(Cancelled(Arc::clone(&cancel_consumer)))];
        Self {
            process,
            proxy,
            cancel_consumer,
            before_kill: None,
            consumers_have_connections: false,
            stoppages,
        }
    }

    /// Says that each consumer has a connection of its own: [`Broker::consumers_have_connections`].
    #[must_use]
    pub fn with_connection_per_consumer(mut self) -> Self {
        self.consumers_have_connections = true;
        self
    }

    /// Says how registrations can stop consuming: [`Broker::stoppages`]. It is that a consumer is cancelled otherwise.
    #[must_use]
    pub fn with_stoppages(mut self, stoppages: impl IntoIterator<Item = Arc<dyn Stoppage>>) -> Self {
        self.stoppages = stoppages.into_iter().collect();
        self
    }

    /// Has something done before each kill, for a broker that keeps less than it acknowledged for some time.
    #[must_use]
    pub fn with_before_kill<F>(mut self, before_kill: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.before_kill = Some(Box::new(move || Box::pin(before_kill())));
        self
    }

    /// Returns the network before it, whose address is the one for bridges.
    #[must_use]
    pub const fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }
}

#[async_trait]
impl Broker for OwnBroker {
    async fn terminate(&self) -> Result<()> {
        self.process.terminate().await.map_err(|error| failed("terminate", &error))
    }

    async fn kill(&self) -> Result<()> {
        if let Some(before_kill) = &self.before_kill {
            before_kill().await?;
        }
        self.process.kill().await.map_err(|error| failed("kill", &error))
    }

    async fn start(&self) -> Result<()> {
        self.process.start_again().await.map_err(|error| failed("start", &error))
    }

    async fn wipe(&self) -> Result<()> {
        self.process.wipe().await.map_err(|error| failed("wipe", &error))
    }

    async fn cancel_consumer(&self, subscriber: &ServiceAddress) -> Result<()> {
        (self.cancel_consumer)(subscriber.clone()).await
    }

    fn stoppages(&self) -> &[Arc<dyn Stoppage>] {
        &self.stoppages
    }

    fn consumers_have_connections(&self) -> bool {
        self.consumers_have_connections
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

/// The broker cancels a consumer.
struct Cancelled(CancelConsumer);

#[async_trait]
impl Stoppage for Cancelled {
    fn name(&self) -> &'static str {
        "the consumer is cancelled"
    }

    async fn begin(&self, _command: &ServiceAddress, subscriber: &ServiceAddress) -> Result<()> {
        (self.0)(subscriber.clone()).await
    }

    async fn end(&self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Debug for OwnBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnBroker")
            .field("process", &self.process)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

fn failed(operation: &'static str, error: &anyhow::Error) -> Error {
    Error::new(ErrorKind::Unexpected, operation).with_context(format!("{error:#}"))
}
