use std::net::SocketAddr;

use crate::{FaultProxy, Process};

/// A process that is broken, and the network before it.
#[derive(Debug)]
pub struct Node {
    pub(super) name: &'static str,
    pub(super) process: Process,
    address: SocketAddr,
    pub(super) proxy: FaultProxy,
}

impl Node {
    /// Puts a network before a process that listens at an address.
    ///
    /// # Errors
    ///
    /// If the system has no port or no thread for it.
    pub fn new(name: &'static str, process: &Process, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { name, process: process.clone(), address, proxy: FaultProxy::start(address)? })
    }

    /// Returns where bridges reach it as long as it runs.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns where bridges reach it as long as the network works, too.
    pub(super) const fn address_through_network(&self) -> SocketAddr {
        self.proxy.address()
    }
}
