use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use rand::RngExt as _;
use tokio::{
    net::TcpStream,
    time::{Instant, interval, sleep},
};

use super::{Node, PartReport, Plan, Site, part::Part};

/// How often the port of a broker that starts is tried.
const PROBE: Duration = Duration::from_millis(1);

/// Kills the broker, or what is before it, under load, again and again, and starts it on the same data. Times are
/// measured from the moment that its port accepts.
///
/// # Errors
///
/// If it does not even begin. What goes wrong later is in the report.
pub async fn kills(site: &dyn Site, plan: &Plan) -> anyhow::Result<PartReport> {
    cycles(site, plan, End::Kill).await
}

/// Does the same as [`kills`], but asks to end.
///
/// # Errors
///
/// If it does not even begin. What goes wrong later is in the report.
pub async fn restarts(site: &dyn Site, plan: &Plan) -> anyhow::Result<PartReport> {
    cycles(site, plan, End::Terminate).await
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Terminate => "restart",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Terminate => "restarts",
        }
    }
}

async fn cycles(site: &dyn Site, plan: &Plan, end: End) -> anyhow::Result<PartReport> {
    let mut part = Part::begin(site, Node::address, plan).await?;
    part.may_lose = end == End::Kill && site.loses_at_a_kill();
    for cycle in 0..plan.cycles {
        let nodes = turn(site.nodes(), cycle);
        if let Err(error) = end_and_start(nodes, &mut part, plan, end).await {
            part.complain(format!("{} {}: {error:#}", end.name(), cycle + 1));
            break;
        }
    }
    Ok(part.end(&format!("{} of {}", end.title(), site.broken())).await)
}

/// Returns the nodes that a cycle ends: one after the other, then all at once.
fn turn(nodes: &[Node], cycle: usize) -> &[Node] {
    let turn = cycle % (nodes.len() + 1);
    nodes.get(turn..=turn).unwrap_or(nodes)
}

async fn end_and_start(nodes: &[Node], part: &mut Part<'_>, plan: &Plan, end: End) -> anyhow::Result<()> {
    let events = part.chance.random_range(1..=plan.most_events);
    part.flows(events).await?;
    let ended = nodes.iter().map(async |node| match end {
        End::Kill => node.process.kill().await,
        End::Terminate => node.process.terminate().await,
    });
    try_join_all(ended).await?;
    // Half of the outages are short, as a supervisor makes them; in the others bridges try less and less often.
    let outage = match part.chance.random::<bool>() {
        true => Duration::ZERO,
        false => part.chance.random_range(Duration::ZERO..=plan.longest),
    };
    sleep(outage).await;
    let accepts = async {
        join_all(nodes.iter().map(|node| accepts(node.address()))).await;
        // All that comes from now on through these nodes comes from the new processes.
        part.mark(Instant::now(), 0);
        Ok(())
    };
    let started = try_join_all(nodes.iter().map(|node| node.process.start_again()));
    tokio::try_join!(started, accepts).context("start again")?;
    let names: Vec<_> = nodes.iter().map(|node| node.name).collect();
    let (end, names) = (end.name(), names.join(" and "));
    part.recovers(format!("{end} of {names}, down for {} ms", outage.as_millis())).await
}

/// Waits until a port accepts. Whoever calls this has a time limit for the process behind it.
async fn accepts(address: SocketAddr) {
    let mut poll = interval(PROBE);
    while TcpStream::connect(address).await.is_err() {
        poll.tick().await;
    }
}
