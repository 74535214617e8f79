//! nats-server as a broker of tests.

mod cluster;
mod config;
mod docker;
mod find;
mod monitor;
mod server;

pub use cluster::NatsCluster;
pub use config::NatsConfig;
pub use monitor::{Connection, Monitor, ServerInfo, Subscription};
pub use server::NatsServer;

/// The version that `scripts/test.sh` installs and `docker-compose.yml` runs.
const VERSION: &str = "2.15.2";
