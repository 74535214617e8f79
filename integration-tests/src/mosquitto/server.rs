use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    HARNESS, MosquittoConfig, Subscription,
    config::{Files, Ports},
    figures,
    find::{find, find_passwd},
    sessions::{Log, WITHOUT_DATA},
};
use crate::{
    FaultProxy,
    folder::Folder,
    launch::Launch,
    port::{accepts, free_port, retry_if_taken},
    process::Process,
};

const ACL: &str = "acl";
const PASSWORDS: &str = "passwords";

/// What a server says when it reads its files again.
const RELOADING: &str = "Reloading config";

/// How long a server may take to read its files again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server, which is a process of its own.
#[derive(Debug)]
pub struct MosquittoServer {
    process: Process,
    /// Holds files that the process reads again when it starts again.
    config: MosquittoConfig,
    url: String,
    websocket_url: Option<String>,
    address: SocketAddr,
    harness: SocketAddr,
    log: Mutex<Log>,
    log_file: PathBuf,
}

impl MosquittoServer {
    /// Starts a server on free ports, with a data folder of its own; returns when it is ready. It ends with this.
    ///
    /// # Errors
    ///
    /// If there is no mosquitto, with the command that installs it; or if it does not become ready, with the end of its
    /// log.
    pub async fn start(config: MosquittoConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&config)).await?
    }

    /// Returns the URL for clients, without a user.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for clients that connect through a proxy, without a user.
    #[must_use]
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        format!("{}://{}", self.config.scheme(), proxy.address())
    }

    /// Returns the URL for clients that use WebSockets, if they were asked for and this build of Mosquitto has them.
    #[must_use]
    pub fn websocket_url(&self) -> Option<String> {
        self.websocket_url.clone()
    }

    /// Returns the address for clients: what a proxy connects to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its process, to end it and to start it again.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the identifiers of the clients that are connected, as the log says.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn clients(&self) -> anyhow::Result<Vec<String>> {
        let mut log = self.log.lock();
        Ok(log.sessions()?.connected().filter(|&client| client != HARNESS).map(Into::into).collect())
    }

    /// Returns the subscriptions that exist, those of kept sessions whose client is away too, as the log says.
    ///
    /// # Errors
    ///
    /// If the log cannot be read.
    pub fn subscriptions(&self) -> anyhow::Result<Vec<Subscription>> {
        let mut log = self.log.lock();
        Ok(log.sessions()?.subscriptions().filter(|subscription| subscription.client != HARNESS).collect())
    }

    /// Replaces the access control list that the server was configured with, and has it read; returns when it holds.
    ///
    /// # Errors
    ///
    /// If there was none, the file cannot be written, or the server does not read it.
    pub async fn replace_acl(&self, text: &str) -> anyhow::Result<()> {
        ensure!(self.config.acl().is_some(), "there was no access control list");
        let config = self.config.clone().with_acl(text);
        fs::write(self.process.folder().join(ACL), config.acl().unwrap_or_default())?;
        self.reload().await
    }

    /// Replaces the users that the server was configured with, and has it read them; returns when that holds.
    ///
    /// # Errors
    ///
    /// As [`replace_acl`](Self::replace_acl).
    pub async fn replace_users(&self, users: &[(&str, &str)]) -> anyhow::Result<()> {
        let passwords = self.process.folder().join(PASSWORDS);
        let binary = find()?;
        fs::write(&passwords, "")?;
        for (name, password) in users.iter().copied().chain([(HARNESS, HARNESS)]) {
            add_user(&binary, &passwords, name, password)?;
        }
        self.reload().await
    }

    /// Has the server read its files again.
    async fn reload(&self) -> anyhow::Result<()> {
        // Of the whole log, as its end may have no line that was there before.
        let reloads = || -> anyhow::Result<usize> {
            Ok(String::from_utf8_lossy(&fs::read(&self.log_file)?).matches(RELOADING).count())
        };
        let before = reloads()?;
        let id = self.process.id().context("it does not run")?;
        ensure!(Command::new("kill").args(["-HUP", &id.to_string()]).status()?.success(), "not told");
        let deadline = Instant::now() + PATIENCE;
        while reloads()? <= before {
            ensure!(Instant::now() < deadline, "it did not reload");
            sleep(Duration::from_millis(10)).await;
        }
        // It reads the files in the same turn of its loop in which it says so, and greets in a later one.
        let harness = self.harness;
        tokio::task::spawn_blocking(move || figures::greet(harness)).await?
    }

    /// Returns how many messages the server holds for clients, whether these are away or have not acknowledged them. One
    /// for several clients counts once, and one that is retained does not count. Messages of a session that did not
    /// outlive a restart, as it was begun with a clean start, count until the next restart: the server keeps them. The
    /// figure is counted after this call, which takes two seconds, or some more when the server has just started.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn queued(&self) -> anyhow::Result<usize> {
        let harness = self.harness;
        tokio::task::spawn_blocking(move || figures::queued(harness)).await?
    }

    fn start_blocking(config: &MosquittoConfig) -> anyhow::Result<Self> {
        let binary = find()?;
        retry_if_taken(|| {
            let websockets = config.has_websockets().then(free_port).transpose()?;
            Self::start_on(&binary, config, Ports { client: free_port()?, harness: free_port()?, websockets })
        })
    }

    fn start_on(binary: &Path, config: &MosquittoConfig, ports: Ports) -> anyhow::Result<Self> {
        let folder = Folder::new("mosquitto")?;
        let [file, passwords, acl] = ["mosquitto.conf", PASSWORDS, ACL].map(|name| folder.path().join(name));
        let files = Files { data: &folder.data(), passwords: &passwords, acl: &acl };
        fs::write(&file, config.text(ports, files)).context("configuration file")?;
        if let Some(text) = config.acl() {
            fs::write(&acl, text).context("access control list")?;
        }
        fs::write(&passwords, "").context("password file")?;
        for (name, password) in config.users() {
            add_user(binary, &passwords, name, password)?;
        }

        let [address, harness] = [ports.client, ports.harness].map(on_loopback);
        let log_file = folder.log();
        let log = Log::new(log_file.clone(), config.kept());
        let process = Process::start(folder, launch(binary, &file, files.data, address, harness))?;
        let url = format!("{}://{address}", config.scheme());
        let websockets = ports.websockets.map(on_loopback).filter(|&address| accepts(address).is_ok());
        let websocket_url =
            websockets.map(|address| format!("{}://{address}/mqtt", config.websocket_scheme()));
        let log = Mutex::new(log);
        Ok(Self { process, config: config.clone(), url, websocket_url, address, harness, log, log_file })
    }
}

fn on_loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Adds a user with a hashed password to a file.
fn add_user(binary: &Path, passwords: &Path, name: &str, password: &str) -> anyhow::Result<()> {
    let output =
        Command::new(find_passwd(binary)?).arg("-b").arg(passwords).args([name, password]).output()?;
    ensure!(output.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn launch(binary: &Path, file: &Path, data: &Path, address: SocketAddr, harness: SocketAddr) -> Launch {
    let script = format!(r#"[ -e "$1/mosquitto.db" ] || echo "{WITHOUT_DATA}"; exec "$2" -c "$3""#);
    let arguments = ["sh", "-c", &script, "mosquitto"].map(Into::into);
    let paths = [data, binary, file].map(Into::into);
    let command = arguments.into_iter().chain(paths).collect();
    Launch::new("mosquitto", command, move || {
        figures::greet(harness)?;
        accepts(address).map(drop)
    })
}
