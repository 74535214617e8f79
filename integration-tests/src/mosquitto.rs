//! Mosquitto as a broker of tests.

mod config;
mod figures;
mod find;
mod server;
mod sessions;

pub use config::MosquittoConfig;
pub use server::MosquittoServer;
pub use sessions::Subscription;

/// Client identifier and user of what reads the figures of a server.
const HARNESS: &str = "purista-harness";
