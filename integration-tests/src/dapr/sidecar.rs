use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::{SidecarConfig, config::Ports, find::find};
use crate::{
    folder::Folder,
    http::Http,
    launch::Launch,
    port::{accepts, free_port, retry_if_taken},
    process::Process,
};

/// A sidecar, which is a process of its own beside an application.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    /// Holds the registry, which the process needs again when it starts again.
    _config: SidecarConfig,
    url: String,
    address: SocketAddr,
    /// What tells about it, also without a token.
    public: Http,
}

impl Sidecar {
    /// Starts a sidecar on free ports; returns when it serves its API. It ends with this.
    ///
    /// It asks the application for its subscriptions when that listens, and delivers some time later. It does not ask
    /// again unless it is started again.
    ///
    /// # Errors
    ///
    /// If there is no daprd, with what builds it; or if it does not become ready, with the end of its log.
    pub async fn start(config: SidecarConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&config)).await?
    }

    /// Returns the URL of its API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the address of its API: what a proxy connects to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the version of daprd.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn version(&self) -> anyhow::Result<String> {
        let public = self.public.clone();
        tokio::task::spawn_blocking(move || about(&public).map(|about| about.version)).await?
    }

    /// Returns whether it has a component.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn has_component(&self) -> anyhow::Result<bool> {
        let public = self.public.clone();
        tokio::task::spawn_blocking(move || about(&public).map(|about| !about.components.is_empty())).await?
    }

    /// Returns its process, to end it and to start it again.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    fn start_blocking(config: &SidecarConfig) -> anyhow::Result<Self> {
        let binary = find()?;
        retry_if_taken(|| {
            let http = config.http_port().map_or_else(free_port, Ok)?;
            let [grpc, internal, public] = [free_port()?, free_port()?, free_port()?];
            let ports = Ports { http, grpc, internal, public };
            config.registry().first_alone(|| Self::start_on(&binary, config, ports))
        })
    }

    fn start_on(binary: &Path, config: &SidecarConfig, ports: Ports) -> anyhow::Result<Self> {
        let folder = Folder::new("daprd")?;
        let [resources, file] = ["resources", "config.yaml"].map(|name| folder.path().join(name));
        fs::create_dir(&resources).context("folder of resources")?;
        fs::write(resources.join("pubsub.yaml"), config.component()).context("component")?;
        fs::write(&file, config.text()).context("configuration file")?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.http));
        let url = format!("http://{address}");
        let mut command: Vec<OsString> = vec!["env".into()];
        command.extend(config.environment().map(Into::into));
        command.push(binary.into());
        command.extend(config.arguments(ports, &resources, &file).into_iter().map(Into::into));
        let public = Http::new(format!("http://127.0.0.1:{}/v1.0", ports.public));
        let launch = Launch::new("daprd", command, is_ready(config.app_id().into(), public.clone(), address));
        let process = Process::start(folder, launch)?;
        Ok(Self { process, _config: config.clone(), url, address, public })
    }
}

/// What a sidecar tells about itself.
#[derive(Debug, Deserialize)]
struct About {
    id: String,
    #[serde(rename = "runtimeVersion")]
    version: String,
    #[serde(default)]
    components: Vec<Value>,
}

fn about(public: &Http) -> anyhow::Result<About> {
    public.read("metadata")
}

fn is_ready(
    app_id: String,
    public: Http,
    address: SocketAddr,
) -> impl Fn() -> anyhow::Result<()> + Send + Sync + 'static {
    move || {
        match about(&public) {
            Ok(about) => {
                ensure!(about.id == app_id, "address already in use: {} answers", about.id);
                // It calls itself healthy also while it loads components, and before it ends as it cannot.
                ensure!(!about.components.is_empty(), "the component is not ready");
            }
            // Its configuration may forbid to ask who it is.
            Err(error) => ensure!(error.to_string().contains(": 404"), "{error:#}"),
        }
        public.get("healthz/outbound")?;
        accepts(address).map(drop)
    }
}
