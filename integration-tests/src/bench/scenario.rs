use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::contender::Stage;

/// What is measured.
pub struct Scenario<S: 'static> {
    pub(super) name: &'static str,
    /// The unit of each value.
    pub(super) units: &'static [&'static str],
    pub(super) comparisons: &'static [Comparison],
    pub(super) set_up: SetUp<S>,
}

type SetUp<S> = fn(Arc<S>) -> BoxFuture<'static, anyhow::Result<Stage>>;

/// Which contender is compared with which others.
#[derive(Debug)]
pub struct Comparison {
    pub(super) who: &'static str,
    pub(super) others: &'static [&'static str],
    /// What the ratio has to be, for each value of the scenario.
    pub(super) goals: &'static [Option<Goal>],
}

/// What a ratio has to be.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Goal {
    /// This, or more.
    AtLeast(f64),
    /// This, or less.
    AtMost(f64),
}

impl<S> Scenario<S> {
    /// Calls one after the other.
    #[must_use]
    pub const fn one_by_one(
        name: &'static str,
        comparisons: &'static [Comparison],
        set_up: SetUp<S>,
    ) -> Self {
        Self { name, units: &["p50 \u{b5}s", "p99 \u{b5}s"], comparisons, set_up }
    }

    /// Many calls or events in flight; the unit is what is counted in a second.
    #[must_use]
    pub const fn in_flight(
        name: &'static str,
        unit: &'static [&'static str; 1],
        comparisons: &'static [Comparison],
        set_up: SetUp<S>,
    ) -> Self {
        Self { name, units: unit, comparisons, set_up }
    }
}

impl<S> fmt::Debug for Scenario<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scenario").field(&self.name).finish()
    }
}

impl Comparison {
    /// Compares one with others. Each value of the scenario can have a goal, in their order.
    #[must_use]
    pub const fn new(
        who: &'static str,
        others: &'static [&'static str],
        goals: &'static [Option<Goal>],
    ) -> Self {
        Self { who, others, goals }
    }
}

impl Goal {
    pub(super) fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(ratio) => write!(f, "\u{2265} {ratio:.2}"),
            Self::AtMost(ratio) => write!(f, "\u{2264} {ratio:.2}"),
        }
    }
}
