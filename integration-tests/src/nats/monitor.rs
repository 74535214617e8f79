use serde::Deserialize;

use crate::http::Http;

/// How many connections one page has.
const PAGE: usize = 1024;

/// Asks a server about itself, over its monitoring port.
#[derive(Clone, Debug)]
pub struct Monitor {
    http: Http,
    page: usize,
}

/// What a server says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// How many clients are connected.
    pub connections: usize,
    /// The largest payload it takes, in bytes.
    pub max_payload: usize,
}

/// A connected client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// The name that the client gave itself, or nothing.
    pub name: String,
    /// What it subscribes to.
    pub subscriptions: Vec<Subscription>,
}

/// A subscription of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[non_exhaustive]
pub struct Subscription {
    /// Its subject, which may have wildcards.
    pub subject: String,
    /// Its queue group.
    #[serde(rename = "qgroup")]
    pub queue: Option<String>,
}

impl Monitor {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self { http: Http::new(url), page: PAGE }
    }

    /// Returns the open connections of clients with their subscriptions.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn connections(&self) -> anyhow::Result<Vec<Connection>> {
        self.blocking(Self::read_connections).await
    }

    /// Returns what the server says of itself.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn info(&self) -> anyhow::Result<ServerInfo> {
        self.blocking(Self::read_info).await
    }

    /// Returns the name of the server that leads the cluster, if this one knows.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or not as expected.
    pub async fn meta_leader(&self) -> anyhow::Result<Option<String>> {
        self.blocking(|monitor| {
            let Jsz { meta_cluster } = monitor.http.read("jsz")?;
            Ok(meta_cluster.and_then(|cluster| cluster.leader))
        })
        .await
    }

    /// Returns whether the server is healthy.
    ///
    /// # Errors
    ///
    /// If it is not, or does not answer.
    pub async fn health(&self) -> anyhow::Result<()> {
        self.blocking(Self::check_health).await
    }

    pub(super) fn check_health(&self) -> anyhow::Result<()> {
        self.http.get("healthz").map(drop)
    }

    pub(super) fn read_info(&self) -> anyhow::Result<ServerInfo> {
        let Varz { server_name, version, jetstream, connections, max_payload, .. } =
            self.http.read("varz")?;
        let jetstream = jetstream.stats.is_some();
        Ok(ServerInfo { name: server_name, version, jetstream, connections, max_payload })
    }

    /// Returns when the server has read its configuration last, as a text that is another one after each time.
    pub(super) fn read_load_time(&self) -> anyhow::Result<String> {
        Ok(self.http.read::<Varz>("varz")?.config_load_time)
    }

    fn read_connections(&self) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::new();
        loop {
            let (offset, page) = (connections.len(), self.page);
            let found: Connz = self.http.read(&format!("connz?subs=detail&limit={page}&offset={offset}"))?;
            let is_last = found.connections.is_empty() || offset + found.connections.len() >= found.total;
            connections.extend(found.connections.into_iter().map(Connection::from));
            if is_last {
                return Ok(connections);
            }
        }
    }

    async fn blocking<R: Send + 'static>(&self, read: fn(&Self) -> anyhow::Result<R>) -> anyhow::Result<R> {
        let monitor = self.clone();
        tokio::task::spawn_blocking(move || read(&monitor)).await?
    }
}

#[derive(Deserialize)]
struct Varz {
    server_name: String,
    version: String,
    #[serde(default)]
    jetstream: JetStreamz,
    connections: usize,
    max_payload: usize,
    config_load_time: String,
}

#[derive(Default, Deserialize)]
struct JetStreamz {
    /// Not `config`: the server keeps what that was when it was asked first, which may be before JetStream is up.
    stats: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Jsz {
    meta_cluster: Option<MetaCluster>,
}

#[derive(Deserialize)]
struct MetaCluster {
    leader: Option<String>,
}

#[derive(Deserialize)]
struct Connz {
    total: usize,
    connections: Vec<Conn>,
}

#[derive(Deserialize)]
struct Conn {
    #[serde(default)]
    name: String,
    #[serde(default)]
    subscriptions_list_detail: Vec<Subscription>,
}

impl From<Conn> for Connection {
    fn from(Conn { name, subscriptions_list_detail: subscriptions }: Conn) -> Self {
        Self { name, subscriptions }
    }
}

#[cfg(test)]
mod tests {
    use crate::nats::{NatsConfig, NatsServer};

    #[tokio::test]
    async fn connections_come_from_all_pages() {
        let server = NatsServer::start(NatsConfig::core()).await.unwrap();
        let mut clients = Vec::new();
        for number in 0..5 {
            let options = async_nats::ConnectOptions::new().name(number.to_string());
            clients.push(options.connect(server.url()).await.unwrap());
        }
        let mut monitor = server.monitor().clone();
        for page in [1, 2, 5, 6] {
            monitor.page = page;
            let mut names: Vec<_> =
                monitor.connections().await.unwrap().into_iter().map(|connection| connection.name).collect();
            names.sort();
            assert_eq!(names, ["0", "1", "2", "3", "4"]);
        }
    }
}
