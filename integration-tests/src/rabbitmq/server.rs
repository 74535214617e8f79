use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use url::Url;

use super::{
    Management, RabbitConfig,
    config::MEMORY_WATERMARK,
    decoded, encode,
    find::Installation,
    node::{Member, Node, Ports},
};
use crate::{
    FaultProxy,
    environment::{External, Names},
    folder::Folder,
    launch::Launch,
    port::{accepts, free_port, retry_if_taken},
    process::Process,
    shared::Shared,
    turns::Turns,
};

const NAMES: Names =
    Names { url: "PURISTA_AMQP_URL", port: 5672, http: "PURISTA_AMQP_MANAGEMENT_URL", http_port: 15672 };

/// A start keeps one core busy for seconds.
static STARTS: Turns = Turns::new(2);

/// A server: its own process, or one that runs elsewhere.
#[derive(Debug)]
pub struct RabbitServer {
    own: Option<(Process, Node)>,
    /// Holds files that the process reads again when it starts again.
    _config: RabbitConfig,
    /// What stands before the host in URLs.
    origin: String,
    url: String,
    address: SocketAddr,
    management: Management,
}

impl RabbitServer {
    /// Starts a server on free ports, with a data folder of its own; returns when it is ready. It ends with this.
    ///
    /// # Errors
    ///
    /// If there is no rabbitmq-server, with the command that installs it; or if it does not become ready, with the end
    /// of its log.
    pub async fn start(config: RabbitConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(&config)).await?
    }

    /// Returns the server that all trials of this process share. The first call starts it, or finds the one at
    /// `PURISTA_AMQP_URL`, with its management API at `PURISTA_AMQP_MANAGEMENT_URL` or the usual port.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), or if the one at `PURISTA_AMQP_URL` or its management API does not answer.
    pub async fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Shared<RabbitServer> = Shared::new();
        let find = || match External::from_env(&NAMES) {
            Some(external) => Self::find_external(external?),
            None => Self::start_blocking(&RabbitConfig::default()),
        };
        tokio::task::spawn_blocking(move || SHARED.get(find)).await?
    }

    /// Returns the URL for clients, with user and password, and without a virtual host.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL for clients of a virtual host.
    #[must_use]
    pub fn url_of(&self, vhost: &str) -> String {
        format!("{}/{}", self.url, encode(vhost))
    }

    /// Returns the URL for clients that connect through a proxy, without a virtual host.
    #[must_use]
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        format!("{}{}", self.origin, proxy.address())
    }

    /// Returns the URL for clients of a virtual host that connect through a proxy.
    #[must_use]
    pub fn url_of_through(&self, vhost: &str, proxy: &FaultProxy) -> String {
        format!("{}/{}", self.url_through(proxy), encode(vhost))
    }

    /// Returns the address for clients: what a proxy connects to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what asks the server about itself, and changes it.
    #[must_use]
    pub const fn management(&self) -> &Management {
        &self.management
    }

    /// Returns its process, to end it and to start it again. What is wiped has the default user and the virtual host
    /// `/` when it starts again.
    ///
    /// # Errors
    ///
    /// If the server is not ours.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.own().map(|(process, _)| process)
    }

    /// Raises the alarm that memory is used up, in which the server reads nothing from connections that publish; or
    /// ends it.
    ///
    /// # Errors
    ///
    /// If the server is not ours, or does not answer.
    pub async fn set_memory_alarm(&self, on: bool) -> anyhow::Result<()> {
        let node = self.own()?.1.clone();
        let watermark = if on { "0".to_owned() } else { format!("{{absolute, \"{MEMORY_WATERMARK}\"}}") };
        let call = format!("{{vm_memory_monitor, set_vm_memory_high_watermark, [{watermark}]}}");
        tokio::task::spawn_blocking(move || node.call(&call)).await?
    }

    /// Deletes a queue, also one that is exclusive to a connection.
    ///
    /// # Errors
    ///
    /// If the server is not ours, does not answer, or has no such queue.
    pub async fn delete_queue_by_force(&self, vhost: &str, queue: &str) -> anyhow::Result<()> {
        let (node, vhost, queue) = (self.own()?.1.clone(), vhost.to_owned(), queue.to_owned());
        tokio::task::spawn_blocking(move || node.delete_queue(&vhost, &queue)).await?
    }

    /// Stops the process that a classic queue is inside the server, so that the server answers nothing for it; or lets it go
    /// on.
    ///
    /// # Errors
    ///
    /// If the server is not ours, does not answer, or has no such queue.
    pub async fn suspend_queue(&self, vhost: &str, queue: &str, on: bool) -> anyhow::Result<()> {
        let (node, vhost, queue) = (self.own()?.1.clone(), vhost.to_owned(), queue.to_owned());
        tokio::task::spawn_blocking(move || node.suspend_queue(&vhost, &queue, on)).await?
    }

    /// Waits until the names of all quorum queues of a virtual host are in the server's files. It writes them about three seconds after it
    /// has told its client that the queue is there: one that is killed before starts again with an empty queue, whatever
    /// was confirmed.
    ///
    /// # Errors
    ///
    /// If the server is not ours, does not answer, or writes nothing within ten seconds.
    pub async fn quorum_queues_are_on_disk(&self, vhost: &str) -> anyhow::Result<()> {
        let folder = self.own()?.0.folder().join("data");
        let queues = self.management.queues(vhost).await?;
        let deadline = Instant::now() + Duration::from_secs(10);
        for queue in queues.iter().filter(|queue| queue.kind == "quorum") {
            while !is_registered(&folder, &queue.name)? {
                ensure!(Instant::now() < deadline, "the name of {} is not on disk", queue.name);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn own(&self) -> anyhow::Result<&(Process, Node)> {
        self.own.as_ref().with_context(|| {
            format!("{} is not ours to break (PURISTA_AMQP_URL): start one for this trial", self.address)
        })
    }

    fn find_external(external: External) -> anyhow::Result<Self> {
        let External { url, address, http } = external;
        let url = Url::parse(&url)?;
        let host = url.host_str().context("no host")?;
        let user = decoded(Some(url.username()).filter(|user| !user.is_empty()).unwrap_or("guest"))?;
        let password = decoded(url.password().unwrap_or("guest"))?;
        let origin = format!("{}://{}:{}@", url.scheme(), encode(&user), encode(&password));
        let url = format!("{origin}{host}:{}", address.port());
        let management = Management::new(&http, &user, &password);
        accepts(address).context("server at PURISTA_AMQP_URL")?;
        management.read_cluster_name().context("management API of the server at PURISTA_AMQP_URL")?;
        Ok(Self { own: None, _config: RabbitConfig::default(), origin, url, address, management })
    }

    fn start_blocking(config: &RabbitConfig) -> anyhow::Result<Self> {
        let installation = Installation::find()?;
        retry_if_taken(|| {
            let ports = Ports { client: free_port()?, management: free_port()?, distribution: free_port()? };
            let cluster = format!("purista-{:016x}", rand::random::<u64>());
            Self::start_on(&installation, config, ports, &cluster, None)
        })
    }

    /// Joins the cluster of another node.
    pub(super) fn join(&self, node: &str) -> anyhow::Result<()> {
        self.own()?.1.call(&format!(
            "{{rabbit, stop, []}}, {{rabbit_mnesia, join_cluster, ['{node}', disc]}}, {{rabbit, start, []}}"
        ))
    }

    pub(super) fn start_on(
        installation: &Installation,
        config: &RabbitConfig,
        ports: Ports,
        cluster: &str,
        member: Option<Member>,
    ) -> anyhow::Result<Self> {
        let folder = Folder::new("rabbitmq")?;
        let node = Node::create(
            installation,
            &folder,
            &config.text(cluster, ports),
            ports,
            config.lacks_features(),
            member,
        )?;

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.client));
        let (user, password) = config.user();
        let management = format!("http://127.0.0.1:{}", ports.management);
        let management = Management::new(&management, user, password);
        let ready = is_ready(management.clone(), address, cluster.to_owned(), config.has_tls());
        let launch = Launch::new("rabbitmq-server", node.start_command(), ready)
            .terminated_by(node.terminate_command())
            .in_turns(&STARTS);
        let process = Process::start(folder, launch)?;
        let origin = config.origin();
        let url = format!("{origin}{address}");
        Ok(Self { own: Some((process, node)), _config: config.clone(), origin, url, address, management })
    }
}

fn is_ready(
    management: Management,
    address: SocketAddr,
    cluster: String,
    tls: bool,
) -> impl Fn() -> anyhow::Result<()> + Send + Sync + 'static {
    move || {
        let found = management.read_cluster_name()?;
        ensure!(found == cluster, "address already in use: {found} answers");
        let mut stream = accepts(address)?;
        if !tls {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"AMQP\0\0\x09\x01")?;
            let mut answer = [0];
            stream.read_exact(&mut answer).context("handshake")?;
            ensure!(answer == [1], "no method frame answers the handshake");
        }
        Ok(())
    }
}

/// Returns whether a file that maps quorum queues to their data knows a queue.
fn is_registered(data: &Path, queue: &str) -> anyhow::Result<bool> {
    for folder in fs::read_dir(data)? {
        let Ok(nodes) = fs::read_dir(folder?.path().join("quorum")) else { continue };
        for node in nodes {
            let names = fs::read(node?.path().join("names.dets")).unwrap_or_default();
            if names.windows(queue.len()).any(|window| window == queue.as_bytes()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
