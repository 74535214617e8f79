use std::sync::Arc;

use bytes::Bytes;
use purista_conformance::{Broker, BrokerReport, Deployment, DeploymentOptions, Profile};
use purista_core::{
    Error, ErrorKind, EventBridge, Result, ServiceAddress,
    adapter::{DeadLetter, async_trait},
};
use purista_default::{DefaultEventBridge, Hub, HubConfig};

pub(crate) struct DefaultProfile;

#[async_trait]
impl Profile for DefaultProfile {
    fn name(&self) -> &'static str {
        "default"
    }

    async fn deploy(&self, options: &DeploymentOptions) -> Result<Arc<dyn Deployment>> {
        let mut config = HubConfig::default();
        config.queue_capacity = options.queue_capacity.unwrap_or(config.queue_capacity);
        config.dead_letter_capacity = options.dead_letter_capacity.unwrap_or(config.dead_letter_capacity);
        config.max_payload = options.max_payload.unwrap_or(config.max_payload);
        Ok(Arc::new(InProcess { hub: Hub::new(config), max_pending_calls: options.max_pending_calls }))
    }

    async fn reach(&self, _location: &str) -> Result<Arc<dyn Deployment>> {
        Err(Error::new(ErrorKind::Unavailable, "reach").with_context("a hub lives within one process"))
    }

    fn not_applicable(&self) -> &'static [(&'static str, &'static str)] {
        &[("DLQ-5", "no kill of the broker is survived")]
    }
}

struct InProcess {
    hub: Hub,
    max_pending_calls: Option<usize>,
}

#[async_trait]
impl Deployment for InProcess {
    fn bridge(&self) -> Result<Arc<dyn EventBridge>> {
        let mut builder = DefaultEventBridge::builder().hub(&self.hub);
        if let Some(calls) = self.max_pending_calls {
            builder = builder.max_pending_calls(calls);
        }
        Ok(Arc::new(builder.build()?))
    }

    async fn inject(&self, bytes: Bytes) -> Result<()> {
        match self.hub.inject(bytes).await {
            Err(error) if error.kind() == ErrorKind::InvalidMessage => Ok(()),
            result => result,
        }
    }

    async fn misroute(&self, to: &ServiceAddress, bytes: Bytes) -> Result<bool> {
        self.hub.misroute(to, bytes).await
    }

    async fn take_dead_letters(&self) -> Result<Vec<DeadLetter>> {
        Ok(self.hub.take_dead_letters())
    }

    async fn inspect(&self) -> Result<BrokerReport> {
        let report = self.hub.report();
        Ok(BrokerReport::new(report.bridges, report.commands + report.subscribers, report.queued))
    }

    fn broker(&self) -> Option<&dyn Broker> {
        None
    }

    fn location(&self) -> Option<String> {
        None
    }
}
