use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use purista_conformance::{Broker, NetworkFault, Stoppage};
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use purista_integration_tests::{
    FaultProxy, Process,
    dapr::{Component, Registry, Sidecar},
};

use super::{instance::Member, secured::Secured, stoppages::stoppages, wire::unavailable};

/// The bridges of a deployment and their sidecars, which find each other.
pub(crate) struct Fleet {
    pub(crate) component: Component,
    pub(crate) registry: Registry,
    pub(crate) security: Option<Secured>,
    /// At which app each command is served.
    pub(crate) apps: Arc<Mutex<HashMap<ServiceAddress, String>>>,
    members: Mutex<Vec<Weak<Member>>>,
    proxies: Mutex<Vec<Arc<FaultProxy>>>,
    /// Between the sidecars of secured deployments and their apps.
    ways_to_apps: Mutex<Vec<Arc<FaultProxy>>>,
    is_down: AtomicBool,
}

impl Fleet {
    pub(crate) fn new(component: Component, security: Option<Secured>) -> Result<Self> {
        Ok(Self {
            component,
            registry: Registry::new().map_err(unavailable)?,
            security,
            apps: Arc::default(),
            members: Mutex::default(),
            proxies: Mutex::default(),
            ways_to_apps: Mutex::default(),
            is_down: AtomicBool::new(false),
        })
    }

    pub(crate) fn add(&self, member: &Arc<Member>) {
        self.members.lock().push(Arc::downgrade(member));
    }

    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns the members beside which a sidecar runs, with it.
    pub(crate) fn sidecars(&self) -> Vec<(Arc<Member>, Arc<Sidecar>)> {
        let beside = |member: Arc<Member>| member.sidecar().map(|sidecar| (member, sidecar));
        self.members().into_iter().filter_map(beside).collect()
    }

    /// Puts a network in front of a sidecar's port.
    pub(crate) fn proxy(&self, port: u16) -> Result<Arc<FaultProxy>> {
        let proxy = Arc::new(FaultProxy::start(([127, 0, 0, 1], port).into()).map_err(unavailable)?);
        self.proxies.lock().push(Arc::clone(&proxy));
        Ok(proxy)
    }

    /// Returns the port at which a sidecar calls an app: in secured deployments that of a network in front of it.
    pub(crate) fn port_for_sidecar(&self, app_port: u16) -> Result<u16> {
        if self.security.is_none() {
            return Ok(app_port);
        }
        let way = Arc::new(FaultProxy::start(([127, 0, 0, 1], app_port).into()).map_err(unavailable)?);
        let port = way.address().port();
        self.ways_to_apps.lock().push(way);
        Ok(port)
    }

    pub(crate) fn ways_to_apps(&self) -> Vec<Arc<FaultProxy>> {
        self.ways_to_apps.lock().clone()
    }

    /// Returns the ports at which sidecars call the bridges.
    pub(crate) fn app_ports(&self) -> Vec<u16> {
        self.members().iter().map(|member| member.app_port()).collect()
    }

    /// Returns the ports at which bridges find the networks before their sidecars.
    pub(crate) fn proxy_ports(&self) -> Vec<u16> {
        self.proxies.lock().iter().map(|proxy| proxy.address().port()).collect()
    }

    /// Returns whether no sidecar may run.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("component", &self.component).finish_non_exhaustive()
    }
}

/// All sidecars of a deployment and, if it has one of its own, what is behind their component, as its broker.
#[derive(Debug)]
pub(crate) struct Sidecars {
    fleet: Arc<Fleet>,
    server: Option<Process>,
    stoppages: Stoppages,
}

struct Stoppages(Vec<Arc<dyn Stoppage>>);

impl fmt::Debug for Stoppages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|stoppage| stoppage.name())).finish()
    }
}

impl Sidecars {
    pub(crate) fn new(fleet: Arc<Fleet>, server: Option<Process>) -> Self {
        let stoppages = Stoppages(stoppages(&fleet));
        Self { fleet, server, stoppages }
    }

    /// Does something with each process that runs or ran beside a bridge.
    async fn each<F>(&self, work: impl Fn(Process) -> F + Sync) -> Result<()>
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let work = &work;
        let works = self.fleet.members().into_iter().map(|member| async move {
            let _alone = member.alone().await;
            match member.sidecar() {
                Some(sidecar) => work(sidecar.process().clone()).await,
                None => Ok(()),
            }
        });
        try_join_all(works).await.map(drop).map_err(unavailable)
    }
}

#[async_trait]
impl Broker for Sidecars {
    async fn terminate(&self) -> Result<()> {
        self.fleet.is_down.store(true, Ordering::SeqCst);
        self.each(|process| async move { process.terminate().await }).await?;
        match &self.server {
            Some(server) => server.terminate().await.map_err(unavailable),
            None => Ok(()),
        }
    }

    async fn kill(&self) -> Result<()> {
        self.fleet.is_down.store(true, Ordering::SeqCst);
        self.each(|process| async move { process.kill().await }).await?;
        match &self.server {
            Some(server) => server.kill().await.map_err(unavailable),
            None => Ok(()),
        }
    }

    async fn start(&self) -> Result<()> {
        if let Some(server) = &self.server {
            server.start_again().await.map_err(unavailable)?;
        }
        self.fleet.is_down.store(false, Ordering::SeqCst);
        self.each(|process| async move { process.start_again().await }).await
    }

    async fn wipe(&self) -> Result<()> {
        match &self.server {
            Some(server) => server.wipe().await.map_err(unavailable),
            None => Ok(()),
        }
    }

    async fn cancel_consumer(&self, _subscriber: &ServiceAddress) -> Result<()> {
        Err(unavailable("a sidecar consumes by itself"))
    }

    fn stoppages(&self) -> &[Arc<dyn Stoppage>] {
        &self.stoppages.0
    }

    fn break_network(&self, how: NetworkFault) {
        self.fleet.proxies.lock().iter().for_each(|proxy| proxy.break_network(how));
    }

    fn mend_network(&self) {
        self.fleet.proxies.lock().iter().for_each(|proxy| proxy.mend());
    }

    fn connection_attempts(&self) -> usize {
        self.fleet.proxies.lock().iter().map(|proxy| proxy.connection_attempts()).sum()
    }
}
