use std::{net::SocketAddr, pin::pin, time::Duration};

use anyhow::{Context as _, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, interval, timeout};

use super::{
    Inventory, Node, Plan, Site,
    load::{Load, SERVICES},
    recovery::Recovery,
    report::PartReport,
};

/// How long everything may take to work again after a fault.
const RECOVERY: Duration = Duration::from_secs(30);
/// How long the load may take to make progress while nothing is broken.
const PROGRESS: Duration = Duration::from_secs(30);
/// How long what waits at the end may take to be handled: a broker delivers again after its lease only.
const DRAIN: Duration = Duration::from_secs(60);
/// How often the end looks whether it is reached.
const LOOK: Duration = Duration::from_millis(100);
/// How long a bridge may take to shut down.
const GRACE: Duration = Duration::from_secs(10);

/// Which address of a node bridges connect to.
pub(super) type Reach = fn(&Node) -> SocketAddr;

/// One part of a run: a load, the faults it went through, and how it was before.
pub(super) struct Part<'a> {
    site: &'a dyn Site,
    load: Load,
    before: Inventory,
    began: Instant,
    recoveries: Vec<Recovery>,
    pub(super) chance: StdRng,
    /// Whether events may be lost, which are counted all the same.
    pub(super) may_lose: bool,
}

impl<'a> Part<'a> {
    pub(super) async fn begin(site: &'a dyn Site, reach: Reach, plan: &Plan) -> anyhow::Result<Self> {
        let began = Instant::now();
        let load = timeout(PROGRESS, Load::begin(site, reach)).await.context("the load does not begin")??;
        let mut part = Self {
            site,
            load,
            before: Inventory::default(),
            began,
            recoveries: Vec::new(),
            chance: StdRng::seed_from_u64(plan.seed),
            may_lose: false,
        };
        part.flows(100).await?;
        site.settle().await?;
        let wanted = connections(site);
        // A broker may take a second to know them all.
        let are_known = || async { Ok(site.inventory().await?.connections == wanted) };
        let known = until(PROGRESS, LOOK, are_known).await;
        let before = site.inventory().await?;
        known.with_context(|| format!("{wanted} connections, but the broker has {}", before.connections))?;
        part.before = Inventory { waiting: 0, ..before };
        Ok(part)
    }

    /// Waits until so many more events are handled.
    pub(super) async fn flows(&self, events: usize) -> anyhow::Result<()> {
        let books = &self.load.books;
        books.grant();
        let wanted = books.handled_count() + events;
        let came =
            until(PROGRESS, Duration::from_millis(2), || async { Ok(books.handled_count() >= wanted) });
        came.await.with_context(|| format!("{events} more events are not handled: {}", self.state()))
    }

    /// Returns the number of the next event.
    pub(super) fn next_event(&self) -> u64 {
        self.load.books.next()
    }

    /// Counts time from `began` until everything works again. Emits count from a number on, what is handled from now on.
    pub(super) fn mark(&self, began: Instant, from: u64) {
        if self.may_lose {
            self.load.books.forget_what_is_under_way();
        }
        self.load.books.grant();
        self.load.books.watch.begin(began, from);
    }

    /// Waits until everything has worked since [`mark`](Self::mark).
    pub(super) async fn recovers(&mut self, fault: String) -> anyhow::Result<()> {
        let recovery = self.recovery(fault).await;
        let verdict = recovery.is_complete();
        self.recoveries.push(recovery);
        let recovery = self.recoveries.last();
        ensure!(verdict, "not all works again after {RECOVERY:?}: {recovery:?}, {}", self.state());
        Ok(())
    }

    /// Watches until everything has worked, for a time. The load goes on all the while: what works already could take all
    /// that was granted, and then nothing would come to what works later.
    async fn recovery(&self, fault: String) -> Recovery {
        let books = &self.load.books;
        let mut watch = pin!(books.watch.end(RECOVERY, fault));
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                recovery = &mut watch => return recovery,
                _ = look.tick() => books.grant(),
            }
        }
    }

    /// Notes what must not be.
    pub(super) fn complain(&self, complaint: String) {
        self.load.books.complain(complaint);
    }

    /// Ends the load, looks whether anything is stuck, and balances the books.
    pub(super) async fn end(mut self, title: &str) -> PartReport {
        let mut drained = None;
        for outcome in [self.still_works().await, self.drains(&mut drained).await, self.is_as_before().await]
        {
            if let Err(error) = outcome {
                self.complain(format!("at the end: {error:#}"));
            }
        }
        self.check_stats();
        for bridge in self.load.bridges() {
            let report = bridge.shutdown(GRACE).await;
            if !report.is_clean() {
                self.complain(format!("a shutdown is not clean: {report:?}"));
            }
        }
        let stats = self.load.bridges().iter().map(|bridge| bridge.stats());
        let failed_acknowledgements = stats.map(|stats| stats.failed_acknowledgements).sum();
        let books = &self.load.books;
        PartReport {
            title: title.into(),
            seconds: self.began.elapsed().as_secs_f64().round(),
            drained_ms: drained.map(super::recovery::in_milliseconds),
            failed_acknowledgements,
            may_lose: self.may_lose,
            ..PartReport::balanced(books).with_recoveries(self.recoveries)
        }
    }

    /// Checks that each bridge handles new events, and calls are answered.
    async fn still_works(&self) -> anyhow::Result<()> {
        self.mark(Instant::now(), self.next_event());
        let recovery = self.recovery(String::new()).await;
        ensure!(recovery.is_complete(), "something is stuck: {recovery:?}, {}", self.state());
        Ok(())
    }

    async fn drains(&mut self, drained: &mut Option<Duration>) -> anyhow::Result<()> {
        let began = Instant::now();
        timeout(DRAIN, self.load.end()).await.context("the load does not end")??;
        let is_empty = || async {
            let is_complete = self.may_lose || self.load.books.balance().lost.is_empty();
            Ok(is_complete && self.site.inventory().await?.waiting == 0)
        };
        let outcome = until(DRAIN, LOOK, is_empty).await;
        let waiting = self.site.inventory().await?.waiting;
        outcome.with_context(|| format!("{waiting} messages wait at the broker: {}", self.state()))?;
        *drained = Some(began.elapsed());
        Ok(())
    }

    async fn is_as_before(&self) -> anyhow::Result<()> {
        let is_healthy =
            || async { Ok(self.load.bridges().iter().all(|bridge| bridge.health().is_healthy())) };
        until(RECOVERY, LOOK, is_healthy).await.with_context(|| self.state())?;
        let as_before = || async { Ok(self.site.inventory().await? == self.before) };
        if until(RECOVERY, LOOK, as_before).await.is_err() {
            let now = self.site.inventory().await?;
            ensure!(now == self.before, "at the broker was {:?}, and now is {now:?}", self.before);
        }
        Ok(())
    }

    /// Complains of what a fault of the broker or the network does not explain.
    fn check_stats(&self) {
        for bridge in self.load.bridges() {
            let stats = bridge.stats();
            let harm = [stats.malformed, stats.failed_attempts, stats.panicked, stats.dead_lettered];
            if harm != [0; 4] || stats.pending_calls + stats.in_hand != 0 {
                self.complain(format!("not everything arrived as it was sent, or ended: {stats:?}"));
            }
        }
    }

    fn state(&self) -> String {
        let health: Vec<_> = self.load.bridges().iter().map(|bridge| bridge.health()).collect();
        format!("the client and {SERVICES} services: {health:?}")
    }
}

/// Returns how many connections all bridges have together.
pub(super) fn connections(site: &dyn Site) -> usize {
    (SERVICES + 1) * site.connections_of_a_bridge() + SERVICES * site.connections_of_a_subscription()
}

/// Asks again and again until it is so.
pub(super) async fn until<F>(
    limit: Duration,
    pause: Duration,
    is_so: impl Fn() -> F + Send + Sync,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>> + Send,
{
    let mut poll = interval(pause);
    let asked = async {
        loop {
            poll.tick().await;
            // The broker may be busy with what was done to it.
            if is_so().await.unwrap_or(false) {
                return;
            }
        }
    };
    timeout(limit, asked).await.with_context(|| format!("not within {limit:?}"))
}
