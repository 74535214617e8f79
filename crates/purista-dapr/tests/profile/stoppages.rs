//! Ways in which registrations stop consuming while their sidecar answers.

use std::{fs, sync::Arc, time::Duration};

use purista_conformance::{NetworkFault, Stoppage};
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use tokio::time::sleep;

use super::{fleet::Fleet, wire::unavailable};

/// How often it is looked whether a sidecar has noticed.
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn stoppages(fleet: &Arc<Fleet>) -> Vec<Arc<dyn Stoppage>> {
    vec![Arc::new(Unreached(Arc::clone(fleet))), Arc::new(Removed(Arc::clone(fleet)))]
}

/// Sidecars do not reach their apps.
struct Unreached(Arc<Fleet>);

#[async_trait]
impl Stoppage for Unreached {
    fn name(&self) -> &'static str {
        "the sidecars do not reach their apps"
    }

    async fn begin(&self, _command: &ServiceAddress, _subscriber: &ServiceAddress) -> Result<()> {
        self.0.ways_to_apps().iter().for_each(|way| way.break_network(NetworkFault::Down));
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        self.0.ways_to_apps().iter().for_each(|way| way.mend());
        Ok(())
    }
}

/// The component is removed from the resources of each sidecar, which takes that over as it runs.
struct Removed(Arc<Fleet>);

impl Removed {
    async fn change(&self, is_there: bool) -> Result<()> {
        for (_, sidecar) in self.0.sidecars() {
            let resources = sidecar.process().folder().join("resources");
            let [used, unused] = [resources.join("pubsub.yaml"), resources.join("../pubsub.yaml")];
            let (from, to) = if is_there { (unused, used) } else { (used, unused) };
            fs::rename(from, to).map_err(unavailable)?;
            while sidecar.has_component().await.map_err(unavailable)? != is_there {
                sleep(POLL).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Stoppage for Removed {
    fn name(&self) -> &'static str {
        "the component is removed"
    }

    async fn begin(&self, _command: &ServiceAddress, _subscriber: &ServiceAddress) -> Result<()> {
        self.change(false).await
    }

    async fn end(&self) -> Result<()> {
        self.change(true).await
    }
}
