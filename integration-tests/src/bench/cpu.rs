//! Reads processor time, where the system tells it in `/proc`.

use std::{fs, time::Duration};

/// The unit of `/proc`, on every Linux that matters.
const TICK: Duration = Duration::from_millis(10);

/// Reads the processor time of this process, of the server, and of the machine.
#[derive(Clone, Debug)]
pub(super) struct Cpu {
    /// The processes that make the server.
    server: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    client: u64,
    server: u64,
    busy: u64,
    total: u64,
}

/// How much processor time client and server took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) client: Duration,
    pub(super) server: Duration,
}

impl Cpu {
    pub(super) const fn new(server: Vec<u32>) -> Self {
        Self { server }
    }

    /// Returns the state, if the system tells it.
    pub(super) fn read(&self) -> Option<Reading> {
        let (busy, total) = of_machine()?;
        let server: Option<u64> = self.server.iter().map(|id| of_process(&id.to_string())).sum();
        let server = server.filter(|_| !self.server.is_empty())?;
        Some(Reading { client: of_process("self")?, server, busy, total })
    }

    pub(super) fn used_since(&self, before: &Option<Reading>) -> Option<Used> {
        let (before, now) = (before.as_ref()?, self.read()?);
        let ticks = |ticks: u64| TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        Some(Used { client: ticks(now.client - before.client), server: ticks(now.server - before.server) })
    }

    /// Returns the share of the machine that other processes took.
    pub(super) fn noise_since(&self, before: &Option<Reading>) -> Option<f64> {
        let (before, now) = (before.as_ref()?, self.read()?);
        let ours = (now.client - before.client) + (now.server - before.server);
        let others = (now.busy - before.busy).saturating_sub(ours);
        Some(others as f64 / (now.total - before.total).max(1) as f64)
    }
}

fn of_process(id: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before it may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn of_machine() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
    let total: u64 = fields.iter().take(8).sum();
    let idle = fields.get(3)? + fields.get(4)?;
    Some((total - idle, total))
}
