//! daprd, the sidecar of Dapr, as a broker of tests.

mod config;
mod find;
mod registry;
mod sidecar;

pub use config::{Component, SidecarConfig};
pub use registry::Registry;
pub use sidecar::Sidecar;
