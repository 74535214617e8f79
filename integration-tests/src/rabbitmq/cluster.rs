use std::sync::Arc;

use anyhow::ensure;

use super::{RabbitConfig, RabbitServer, find::Installation, node::Member, node::Ports};
use crate::port::{free_port, retry_if_taken};

/// Several servers that are one broker, each with a loopback address of its own for the others.
#[derive(Debug)]
pub struct RabbitCluster {
    servers: Vec<Arc<RabbitServer>>,
}

impl RabbitCluster {
    /// Starts servers, and joins them.
    ///
    /// # Errors
    ///
    /// As [`RabbitServer::start`], or if they do not join.
    pub async fn start(size: u8, config: RabbitConfig) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(move || Self::start_blocking(size, &config)).await?
    }

    fn start_blocking(size: u8, config: &RabbitConfig) -> anyhow::Result<Self> {
        let installation = Installation::find()?;
        let (cookie, name) =
            (format!("{:016x}", rand::random::<u64>()), format!("purista-{:016x}", rand::random::<u64>()));
        retry_if_taken(|| {
            // Erlang nodes that know each other's port without a port mapper must all have the same one.
            let distribution = free_port()?;
            let mut servers = Vec::new();
            for number in 1..=size {
                let member = Member { address: format!("127.0.0.{number}"), cookie: cookie.clone() };
                let ports = Ports { client: free_port()?, management: free_port()?, distribution };
                let server = RabbitServer::start_on(&installation, config, ports, &name, Some(member))?;
                if number > 1 {
                    server.join("rabbit@127.0.0.1")?;
                }
                servers.push(Arc::new(server));
            }
            let known = servers[0].management().read_nodes()?;
            ensure!(known.len() == usize::from(size), "the cluster has {known:?}");
            Ok(Self { servers })
        })
    }

    /// Returns its servers.
    #[must_use]
    pub fn servers(&self) -> &[Arc<RabbitServer>] {
        &self.servers
    }

    /// Returns the server that leads a quorum queue, as a running one tells.
    ///
    /// # Errors
    ///
    /// If none answers, or the queue has no leader.
    pub async fn leader_of(&self, vhost: &str, queue: &str) -> anyhow::Result<&Arc<RabbitServer>> {
        let mut last = None;
        for server in &self.servers {
            match server.management().queue_leader(vhost, queue).await {
                Ok(leader) => {
                    let number = leader.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
                    if let Some(server) = number.and_then(|number| self.servers.get(number - 1)) {
                        return Ok(server);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("{queue} has no leader")))
    }
}
