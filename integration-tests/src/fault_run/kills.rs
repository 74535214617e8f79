use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use rand::RngExt as _;
use tokio::{
    net::TcpStream,
    time::{Instant, interval, sleep},
};

use super::{PartReport, Plan, Site, part::Part};

/// How often the port of a broker that starts is tried.
const PROBE: Duration = Duration::from_millis(1);

/// Kills the broker under load, again and again, and starts it on the same data. Times are measured from the moment
/// that its port accepts.
///
/// # Errors
///
/// If it does not even begin. What goes wrong later is in the report.
pub async fn kills(site: &dyn Site, plan: &Plan) -> anyhow::Result<PartReport> {
    cycles(site, plan, End::Kill).await
}

/// Asks the broker to end under load, again and again, and starts it on the same data. Times are measured as after
/// [`kills`].
///
/// # Errors
///
/// If it does not even begin. What goes wrong later is in the report.
pub async fn restarts(site: &dyn Site, plan: &Plan) -> anyhow::Result<PartReport> {
    cycles(site, plan, End::Terminate).await
}

/// How the broker ends.
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
            Self::Kill => "kill -9 of the broker",
            Self::Terminate => "restarts of the broker",
        }
    }
}

async fn cycles(site: &dyn Site, plan: &Plan, end: End) -> anyhow::Result<PartReport> {
    let mut part = Part::begin(site, site.address(), plan).await?;
    part.may_lose = end == End::Kill && site.loses_at_a_kill();
    for cycle in 1..=plan.cycles {
        if let Err(error) = end_and_start(site, &mut part, plan, end).await {
            part.complain(format!("{} {cycle}: {error:#}", end.name()));
            break;
        }
    }
    Ok(part.end(end.title()).await)
}

async fn end_and_start(site: &dyn Site, part: &mut Part<'_>, plan: &Plan, end: End) -> anyhow::Result<()> {
    let events = part.chance.random_range(1..=plan.most_events);
    part.flows(events).await?;
    match end {
        End::Kill => site.process().kill().await?,
        End::Terminate => site.process().terminate().await?,
    }
    // Half of the outages are short, as a supervisor makes them; in the others bridges try less and less often.
    let outage = match part.chance.random::<bool>() {
        true => Duration::ZERO,
        false => part.chance.random_range(Duration::ZERO..=plan.longest),
    };
    sleep(outage).await;
    let accepts = async {
        accepts(site.address()).await;
        // All that comes from now on comes from the new process.
        part.mark(Instant::now(), 0);
        Ok(())
    };
    tokio::try_join!(site.process().start_again(), accepts).context("start again")?;
    part.recovers(format!("{}, down for {} ms", end.name(), outage.as_millis())).await
}

/// Waits until a port accepts. Whoever calls this has a time limit for the process behind it.
async fn accepts(address: SocketAddr) {
    let mut poll = interval(PROBE);
    while TcpStream::connect(address).await.is_err() {
        poll.tick().await;
    }
}
