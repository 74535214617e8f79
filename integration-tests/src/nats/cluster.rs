use std::{sync::Arc, thread};

use anyhow::anyhow;

use super::{NatsConfig, NatsServer, find::find, server::Ports};
use crate::port::{free_port, retry_if_taken};

/// Servers that form a cluster and keep streams together.
#[derive(Debug)]
pub struct NatsCluster(Vec<NatsServer>);

impl NatsCluster {
    /// Starts so many servers on free ports; returns when the cluster has elected its leader and all are ready.
    ///
    /// # Errors
    ///
    /// As [`NatsServer::start`].
    pub async fn start(servers: usize, config: NatsConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || retry_if_taken(|| Self::start_blocking(servers, &config))).await?
    }

    fn start_blocking(servers: usize, config: &NatsConfig) -> anyhow::Result<Self> {
        let runner = Arc::new(find()?);
        let routes = (0..servers).map(|_| free_port()).collect::<anyhow::Result<Vec<_>>>()?;
        let peers: Vec<_> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        // None of them is ready before most of them run.
        let started: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = routes
                .iter()
                .map(|route| {
                    let config = config.clone().with_lines(format!(
                        "cluster {{ name: purista, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                        peers.join(", ")
                    ));
                    let runner = &runner;
                    scope.spawn(move || {
                        let ports = Ports { client: free_port()?, monitor: free_port()? };
                        NatsServer::start_on(runner, &config, ports)
                    })
                })
                .collect();
            starting.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let started = started.into_iter().map(|server| server.map_err(|_| anyhow!("a start panicked"))?);
        Ok(Self(started.collect::<anyhow::Result<_>>()?))
    }

    /// Returns its servers.
    #[must_use]
    pub fn servers(&self) -> &[NatsServer] {
        &self.0
    }

    /// Returns the URLs of all servers, apart by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.0.iter().map(NatsServer::url).collect();
        urls.join(",")
    }

    /// Returns the server of a name, as others name it: of a leader, for example.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&NatsServer> {
        self.0.iter().find(|server| server.name() == Some(name))
    }
}
