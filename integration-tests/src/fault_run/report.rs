use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::{Plan, Recovery, books::Books, recovery::in_milliseconds};

/// Within which time a bridge should work again (R6 of the catalogue).
const GOAL: Duration = Duration::from_secs(2);

/// How many numbers of lost or duplicated events a report shows.
const SHOWN: usize = 20;

/// What a run found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The broker, with its version.
    pub broker: String,
    /// What was planned.
    pub plan: Plan,
    /// What each part found.
    pub parts: Vec<PartReport>,
}

impl Report {
    /// Creates a report without parts.
    #[must_use]
    pub fn new(broker: impl Into<String>, plan: Plan) -> Self {
        Self { broker: broker.into(), plan, parts: Vec::new() }
    }

    /// Returns whether nothing was lost, invented or stuck.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.parts.iter().all(PartReport::is_good)
    }
}

/// What one part of a run found.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PartReport {
    /// What was broken.
    pub title: String,
    /// How long it took.
    pub seconds: f64,
    /// How many events the broker took over.
    pub acknowledged: u64,
    /// How many emits failed, by kind. Whether these events arrive is not known.
    pub emits_failed: BTreeMap<String, u64>,
    /// How often a handler ran.
    pub handled: usize,
    /// How many events were taken over and never handled.
    pub lost: usize,
    /// Whether that may be.
    pub may_lose: bool,
    /// How many events were handled more than once.
    pub duplicates: usize,
    /// How many of these came again without the remark that they had come before.
    pub duplicates_unmarked: usize,
    /// How many events were handled and never sent.
    pub phantom: usize,
    /// Some of the lost ones.
    pub lost_numbers: Vec<u64>,
    /// Some of the duplicates that had no remark.
    pub unmarked_numbers: Vec<u64>,
    /// How many acknowledgements of events failed.
    pub failed_acknowledgements: u64,
    /// How many calls were answered.
    pub calls_ok: u64,
    /// How many calls failed, by kind.
    pub calls_failed: BTreeMap<String, u64>,
    /// How long it took at the end until nothing waited any more.
    pub drained_ms: Option<f64>,
    /// How the times of the recoveries are spread.
    pub times: BTreeMap<&'static str, Times>,
    /// How everything worked again after each fault.
    pub recoveries: Vec<Recovery>,
    /// What must not be, besides losses.
    pub complaints: Vec<String>,
}

impl PartReport {
    pub(super) fn balanced(books: &Books) -> Self {
        let (balance, counts) = (books.balance(), books.counts());
        let is_unmarked = |number: &&u64| !counts.came_again.contains(number);
        let unmarked: Vec<u64> = balance.duplicated.iter().filter(is_unmarked).copied().collect();
        Self {
            acknowledged: books.acknowledged_count(),
            emits_failed: counts.emits_failed,
            handled: books.handled_count(),
            lost: balance.lost.len(),
            duplicates: balance.duplicated.len(),
            duplicates_unmarked: unmarked.len(),
            phantom: balance.phantom.len(),
            lost_numbers: balance.lost.iter().take(SHOWN).copied().collect(),
            unmarked_numbers: unmarked.into_iter().take(SHOWN).collect(),
            calls_ok: counts.calls_ok,
            calls_failed: counts.calls_failed,
            complaints: counts.complaints,
            ..Self::default()
        }
    }

    pub(super) fn with_recoveries(mut self, recoveries: Vec<Recovery>) -> Self {
        let times = |of: fn(&Recovery) -> Option<Duration>| Times::of(recoveries.iter().filter_map(of));
        self.times = BTreeMap::from([
            ("emit", times(|recovery| recovery.emit)),
            ("event", times(|recovery| recovery.event)),
            ("event everywhere", times(|recovery| recovery.event_everywhere)),
            ("call", times(|recovery| recovery.call)),
        ]);
        self.recoveries = recoveries;
        self
    }

    /// Returns whether nothing was lost that may not be, invented or stuck.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        (self.lost == 0 || self.may_lose) && self.phantom == 0 && self.complaints.is_empty()
    }

    /// Returns how many of a hundred events were handled more than once.
    #[must_use]
    pub fn duplicates_per_cent(&self) -> f64 {
        100.0 * self.duplicates as f64 / self.handled.max(1) as f64
    }
}

/// How times are spread, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// How many there are.
    pub count: usize,
    /// The shortest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The one that 99 of 100 do not exceed.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// How many are longer than the goal of 2 s.
    pub over_goal: usize,
}

impl Times {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        let rank = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).copied().map_or(0.0, in_milliseconds)
        };
        Self {
            count: times.len(),
            min: rank(0.0),
            median: rank(0.5),
            p99: rank(0.99),
            max: rank(1.0),
            over_goal: times.iter().filter(|time| **time > GOAL).count(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}", self.broker, self.plan.seed)?;
        self.parts.iter().try_for_each(|part| write!(f, "\n{part}"))
    }
}

impl fmt::Display for PartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} times in {} s", self.title, self.recoveries.len(), self.seconds)?;
        writeln!(f, "  events  {} acknowledged, {}", self.acknowledged, failures(&self.emits_failed))?;
        writeln!(
            f,
            "          {} lost, {} phantom, {} duplicates ({:.4} %, {} of them not marked)",
            self.lost,
            self.phantom,
            self.duplicates,
            self.duplicates_per_cent(),
            self.duplicates_unmarked
        )?;
        writeln!(f, "  calls   {} answered, {}", self.calls_ok, failures(&self.calls_failed))?;
        match self.drained_ms {
            Some(time) => writeln!(f, "  end     drained in {time} ms")?,
            None => writeln!(f, "  end     NOT DRAINED")?,
        }
        let head = ["works again, ms", "n", "min", "median", "p99", "max", "> 2 s"];
        let [what, n, min, median, p99, max, over] = head;
        writeln!(f, "  {what:18} {n:>5} {min:>9} {median:>9} {p99:>9} {max:>9} {over:>6}")?;
        for (what, Times { count, min, median, p99, max, over_goal }) in &self.times {
            writeln!(
                f,
                "  {what:18} {count:>5} {min:>9.1} {median:>9.1} {p99:>9.1} {max:>9.1} {over_goal:>6}"
            )?;
        }
        self.complaints.iter().try_for_each(|complaint| writeln!(f, "  WRONG: {complaint}"))
    }
}

fn failures(failures: &BTreeMap<String, u64>) -> String {
    if failures.is_empty() {
        return "none failed".to_owned();
    }
    let failures: Vec<_> = failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("failed: {}", failures.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ranked() {
        let times = Times::of((1..=200).rev().map(|number| Duration::from_millis(10 * number + 5)));
        assert_eq!((times.count, times.min, times.median), (200, 15.0, 1_005.0));
        assert_eq!((times.p99, times.max, times.over_goal), (1_985.0, 2_005.0, 1));
        assert_eq!(Times::of(std::iter::empty()), Times::default());
    }
}
