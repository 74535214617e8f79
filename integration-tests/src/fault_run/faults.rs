use std::{fmt, time::Duration};

use purista_conformance::NetworkFault;
use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::{Instant, sleep};

use super::{
    Node, PartReport, Plan, Site,
    part::{Part, connections, until},
};

/// How long bridges may take to connect again after a fault that breaks every connection, before the run goes on.
const CONNECTED_AGAIN: Duration = Duration::from_secs(3);

/// Breaks the network under load, again and again. Times are measured from the fault, or from its end if it lasted.
///
/// # Errors
///
/// If it does not even begin. What goes wrong later is in the report.
pub async fn faults(site: &dyn Site, plan: &Plan) -> anyhow::Result<PartReport> {
    let mut part = Part::begin(site, Node::address_through_network, plan).await?;
    let mut deck = Vec::new();
    for number in 1..=plan.faults {
        let kind = draw(&mut deck, &mut part.chance);
        let fault = kind.fault(&mut part.chance, plan.longest);
        if let Err(error) = break_network(site, &mut part, plan, fault).await {
            part.complain(format!("fault {number}, {fault}: {error:#}"));
            break;
        }
    }
    mend(site);
    Ok(part.end("network faults").await)
}

async fn break_network(
    site: &dyn Site,
    part: &mut Part<'_>,
    plan: &Plan,
    fault: Fault,
) -> anyhow::Result<()> {
    let events = part.chance.random_range(1..=plan.most_events);
    part.flows(events).await?;
    let attempts = connection_attempts(site);
    let mut since = Instant::now();
    site.nodes().iter().for_each(|node| node.proxy.break_network(fault.how));
    match fault.lasts {
        Some(time) => {
            sleep(time).await;
            since = Instant::now();
        }
        None => {
            let all = attempts + connections(site);
            let again = || async { Ok(connection_attempts(site) >= all) };
            // If not, some connection had too little to say to be cut.
            let _all_or_some = until(CONNECTED_AGAIN, Duration::from_millis(1), again).await;
        }
    }
    let next = part.next_event();
    mend(site);
    part.mark(since, next);
    part.recovers(fault.to_string()).await
}

fn mend(site: &dyn Site) {
    site.nodes().iter().for_each(|node| node.proxy.mend());
}

fn connection_attempts(site: &dyn Site) -> usize {
    site.nodes().iter().map(|node| node.proxy.connection_attempts()).sum()
}

/// Takes the next kind from a shuffled deck: all kinds come equally often.
fn draw(deck: &mut Vec<Kind>, chance: &mut StdRng) -> Kind {
    if deck.is_empty() {
        deck.extend(Kind::ALL);
        deck.shuffle(chance);
    }
    deck.pop().unwrap_or(Kind::Reset)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Reset,
    Close,
    Cut,
    Silence,
    Stall,
    Delay,
    Throttle,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Reset, Self::Close, Self::Cut, Self::Silence, Self::Stall, Self::Delay, Self::Throttle];

    fn fault(self, chance: &mut StdRng, longest: Duration) -> Fault {
        let how = match self {
            Self::Reset => NetworkFault::Reset,
            Self::Close => NetworkFault::Close,
            Self::Cut => NetworkFault::CutAfter(chance.random_range(0..=64 * 1024)),
            Self::Silence => NetworkFault::Silence,
            Self::Stall => NetworkFault::Stall,
            Self::Delay => NetworkFault::Delay(Duration::from_millis(chance.random_range(1..=500))),
            Self::Throttle => NetworkFault::Throttle(chance.random_range(1024..=256 * 1024)),
        };
        let lasts = match self {
            Self::Reset | Self::Close | Self::Cut => None,
            // Short ones pass unnoticed; long ones cost the connection.
            _ => Some(chance.random_range(longest / 20..=longest)),
        };
        Fault { how, lasts }
    }
}

/// A fault, and how long it lasts if it does not happen just once.
#[derive(Clone, Copy, Debug)]
struct Fault {
    how: NetworkFault,
    lasts: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.how)?;
        match self.lasts {
            Some(time) => write!(f, " for {} ms", time.as_millis()),
            None => Ok(()),
        }
    }
}
