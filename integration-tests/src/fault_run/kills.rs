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
    let mut part = Part::begin(site, site.address(), plan).await?;
    for cycle in 1..=plan.cycles {
        if let Err(error) = kill(site, &mut part, plan).await {
            part.complain(format!("kill {cycle}: {error:#}"));
            break;
        }
    }
    Ok(part.end("kill -9 of the broker").await)
}

async fn kill(site: &dyn Site, part: &mut Part<'_>, plan: &Plan) -> anyhow::Result<()> {
    let events = part.chance.random_range(1..=plan.most_events);
    part.flows(events).await?;
    site.process().kill().await?;
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
    part.recovers(format!("kill, down for {} ms", outage.as_millis())).await
}

/// Waits until a port accepts. Whoever calls this has a time limit for the process behind it.
async fn accepts(address: SocketAddr) {
    let mut poll = interval(PROBE);
    while TcpStream::connect(address).await.is_err() {
        poll.tick().await;
    }
}
