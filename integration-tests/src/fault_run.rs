//! A fault run: a broker is broken again and again under load, then the books are balanced.
//!
//! The load is the same whatever breaks: publishers that emit numbered events as fast as the broker takes them over,
//! two bridges that share one durable subscription to them, and callers of a command that both serve. After each fault
//! the run measures how long it takes until all of that works again. At the end nothing that the broker took over may
//! be missing, nothing may wait, and the broker must have the same connections and consumers as before the first fault.
//!
//! What is special about a broker is in its [`Site`].

mod books;
mod faults;
mod kills;
mod load;
mod node;
mod part;
mod recovery;
mod report;

use std::{fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use purista_core::EventBridge;
use serde::Serialize;

pub use self::{
    faults::faults,
    kills::{kills, restarts},
    node::Node,
    recovery::Recovery,
    report::{PartReport, Report, Times},
};

/// A broker of one part's own, and how bridges reach it.
#[async_trait]
pub trait Site: Debug + Send + Sync {
    /// Returns what is broken: the broker, or what is between it and each of the bridges. They connect in turn, the
    /// client first. If there are several, cycles end one after the other, then all at once.
    fn nodes(&self) -> &[Node];

    /// Returns what the nodes are.
    fn broken(&self) -> &'static str {
        "the broker"
    }

    /// Creates a bridge that connects to an address, a node's or that of the network before it. It should notice within
    /// a second that a connection is silent.
    ///
    /// # Errors
    ///
    /// Those of the bridge's builder.
    fn bridge(&self, address: SocketAddr) -> purista_core::Result<Arc<dyn EventBridge>>;

    /// Returns how many connections each bridge has.
    fn connections_of_a_bridge(&self) -> usize {
        1
    }

    /// Returns how many connections a bridge has for each subscription, beside those.
    fn connections_of_a_subscription(&self) -> usize {
        0
    }

    /// Returns whether a kill of the broker may cost events that it has taken over. They are counted all the same.
    fn loses_at_a_kill(&self) -> bool {
        false
    }

    /// Waits until a kill of the broker leaves what was declared so far; for brokers that do not wait for that.
    ///
    /// # Errors
    ///
    /// If that takes too long, or the broker does not say.
    async fn settle(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Returns what is at the broker now.
    ///
    /// # Errors
    ///
    /// If the broker does not say.
    async fn inventory(&self) -> anyhow::Result<Inventory>;
}

/// What is at a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// How many connections of bridges there are.
    pub connections: usize,
    /// What bridges listen to, and the consumers they share, as text that is the same for the same.
    pub consumers: Vec<String>,
    /// How many messages wait to be delivered or acknowledged.
    pub waiting: u64,
}

impl Inventory {
    /// Creates an inventory.
    #[must_use]
    pub fn new(connections: usize, mut consumers: Vec<String>, waiting: u64) -> Self {
        consumers.sort_unstable();
        Self { connections, consumers, waiting }
    }
}

/// How much is broken, and how.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How often the broker is killed or restarted.
    pub cycles: usize,
    /// How often the network is broken.
    pub faults: usize,
    /// How many events flow before each fault at the most.
    pub most_events: usize,
    /// How long an outage or a fault that lasts takes at the most.
    pub longest: Duration,
}

impl Plan {
    /// Plans 20 cycles and 100 faults.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, cycles: 20, faults: 100, most_events: 3_000, longest: Duration::from_secs(3) }
    }

    /// Plans a run of a few seconds: two cycles, and a fault of each kind.
    #[must_use]
    pub const fn short(seed: u64) -> Self {
        Self { seed, cycles: 2, faults: 7, most_events: 100, longest: Duration::from_millis(300) }
    }

    /// Sets how often the broker is killed or restarted.
    #[must_use]
    pub const fn with_cycles(mut self, cycles: usize) -> Self {
        self.cycles = cycles;
        self
    }

    /// Sets how often the network is broken.
    #[must_use]
    pub const fn with_faults(mut self, faults: usize) -> Self {
        self.faults = faults;
        self
    }
}
