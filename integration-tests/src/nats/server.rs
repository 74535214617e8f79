use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use anyhow::{Context as _, ensure};

use super::{
    NatsConfig, docker,
    find::{Runner, find},
    monitor::Monitor,
};
use crate::{
    FaultProxy,
    environment::{External, Names},
    folder::Folder,
    launch::Launch,
    port::{accepts, free_port, retry_if_taken},
    process::Process,
    shared::Shared,
};

const NAMES: Names =
    Names { url: "PURISTA_NATS_URL", port: 4222, http: "PURISTA_NATS_MONITOR_URL", http_port: 8222 };

/// How long a server may take to read its configuration again.
const RELOAD: Duration = Duration::from_secs(10);

/// A server: its own process, or one that runs elsewhere.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<Process>,
    /// Holds files that the process reads again when it starts again.
    config: NatsConfig,
    /// How its configuration file is written again; `None` if it is not ours.
    written: Option<Written>,
    url: String,
    address: SocketAddr,
    monitor: Monitor,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) monitor: u16,
}

/// What a configuration file holds beside the configuration.
#[derive(Clone, Debug)]
struct Written {
    runner: Arc<Runner>,
    file: PathBuf,
    data: PathBuf,
    name: String,
    ports: Ports,
}

impl Written {
    fn write(&self, config: &NatsConfig) -> anyhow::Result<()> {
        // Inside a container, the loopback interface cannot be reached from outside.
        let host = if matches!(*self.runner, Runner::Docker(_)) { "0.0.0.0" } else { "127.0.0.1" };
        let text = config.text(&self.name, host, self.ports, &self.data);
        fs::write(&self.file, text).context("configuration file")
    }
}

impl NatsServer {
    /// Starts a server on free ports, with a data folder of its own; returns when it is ready. It ends with this.
    ///
    /// # Errors
    ///
    /// If there is no nats-server, with the command that installs it; or if it does not become ready, with the end of
    /// its log.
    pub async fn start(config: NatsConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&config)).await?
    }

    /// Returns the server that all trials of this process share, one with JetStream and one without. The first call
    /// starts it, or finds the one at `PURISTA_NATS_URL`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), or if the one at `PURISTA_NATS_URL` does not answer or has no JetStream.
    pub async fn shared(jetstream: bool) -> anyhow::Result<Arc<Self>> {
        static SHARED: [Shared<NatsServer>; 2] = [const { Shared::new() }; 2];
        let find = move || match External::from_env(&NAMES) {
            Some(external) => Self::find_external(external?, jetstream),
            None if jetstream => Self::start_blocking(&NatsConfig::jetstream()),
            None => Self::start_blocking(&NatsConfig::core()),
        };
        tokio::task::spawn_blocking(move || SHARED[usize::from(jetstream)].get(find)).await?
    }

    /// Returns the URL for clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for clients that connect through a proxy.
    #[must_use]
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        format!("{}://{}", self.config.scheme(), proxy.address())
    }

    /// Returns the address for clients: what a proxy connects to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its name, if it is ours.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.written.as_ref().map(|written| written.name.as_str())
    }

    /// Returns what asks the server about itself.
    #[must_use]
    pub const fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Returns its process, to end it and to start it again.
    ///
    /// # Errors
    ///
    /// If the server is not ours.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().with_context(|| {
            format!("{} is not ours to break (PURISTA_NATS_URL): start one for this trial", self.address)
        })
    }

    /// Has the server read another configuration while it runs, as an operator can (SIGHUP); returns when it has. Starts
    /// after this use the former one again, unless that is asked for anew.
    ///
    /// # Errors
    ///
    /// If the server is not ours, or does not take the configuration: with the end of its log.
    pub async fn reload(&self, config: &NatsConfig) -> anyhow::Result<()> {
        let process = self.process()?.clone();
        let written = self.written.clone().context("the server is not ours")?;
        let (monitor, config) = (self.monitor.clone(), config.clone());
        tokio::task::spawn_blocking(move || {
            let before = monitor.read_load_time()?;
            written.write(&config)?;
            match &*written.runner {
                Runner::Binary(_) => process.signal(Signal::HUP)?,
                Runner::Docker(docker) => docker::reload(docker, &written.name)?,
            }
            let deadline = Instant::now() + RELOAD;
            while monitor.read_load_time()? == before {
                ensure!(Instant::now() < deadline, "not reloaded; the end of its log:\n{}", process.log());
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
        .await?
    }

    fn find_external(external: External, jetstream: bool) -> anyhow::Result<Self> {
        let External { url, address, http } = external;
        let monitor = Monitor::new(http);
        accepts(address).context("server at PURISTA_NATS_URL")?;
        let info = monitor.read_info().context("monitoring port of the server at PURISTA_NATS_URL")?;
        ensure!(info.jetstream || !jetstream, "the server at PURISTA_NATS_URL has no JetStream");
        Ok(Self { process: None, config: NatsConfig::default(), written: None, url, address, monitor })
    }

    fn start_blocking(config: &NatsConfig) -> anyhow::Result<Self> {
        let runner = Arc::new(find()?);
        retry_if_taken(|| {
            Self::start_on(&runner, config, Ports { client: free_port()?, monitor: free_port()? })
        })
    }

    pub(super) fn start_on(runner: &Arc<Runner>, config: &NatsConfig, ports: Ports) -> anyhow::Result<Self> {
        let folder = Folder::new("nats")?;
        let file = folder.path().join("nats.conf");
        let name = format!("purista-{:016x}", rand::random::<u64>());
        let written = Written { runner: Arc::clone(runner), file, data: folder.data(), name, ports };
        written.write(config)?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.client));
        let monitor = Monitor::new(format!("http://127.0.0.1:{}", ports.monitor));
        let Written { file, name, .. } = &written;
        let ready = is_ready(monitor.clone(), address, name.clone(), config.has_jetstream());
        let launch = match &**runner {
            Runner::Binary(binary) => launch(binary, file, ready),
            Runner::Docker(docker) => docker::launch(docker, name, ports, file, ready),
        };
        let process = Process::start(folder, launch)?;
        let url = format!("{}://{address}", config.scheme());
        Ok(Self {
            process: Some(process),
            config: config.clone(),
            written: Some(written),
            url,
            address,
            monitor,
        })
    }
}

fn launch(
    binary: &Path,
    config: &Path,
    ready: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
) -> Launch {
    Launch::new("nats-server", vec![binary.into(), "-c".into(), config.into()], ready)
}

fn is_ready(
    monitor: Monitor,
    address: SocketAddr,
    name: String,
    jetstream: bool,
) -> impl Fn() -> anyhow::Result<()> + Send + Sync + 'static {
    move || {
        let info = monitor.read_info()?;
        ensure!(info.name == name, "address already in use: {} answers", info.name);
        ensure!(info.jetstream == jetstream, "JetStream is not ready");
        monitor.check_health()?;
        accepts(address).map(drop)
    }
}
