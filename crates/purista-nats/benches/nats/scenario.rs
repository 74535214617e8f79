use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{contender::Stage, events, requests};

/// What is measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [Value],
    pub(crate) set_up: fn(String) -> BoxFuture<'static, anyhow::Result<Stage>>,
}

/// One number of a scenario.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<Goal>,
}

/// What the ratio of ours to raw has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
        }
    }
}

const fn value(unit: &'static str, goal: Option<Goal>) -> Value {
    Value { unit, goal }
}

/// Everything that can be measured.
pub(crate) const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "request-1",
        values: &[value("p50 \u{b5}s", Some(Goal::AtMost(1.1))), value("p99 \u{b5}s", None)],
        set_up: |url| requests::set_up(url, 1).boxed(),
    },
    Scenario {
        name: "request-64",
        values: &[value("calls/s", None)],
        set_up: |url| requests::set_up(url, 64).boxed(),
    },
    Scenario {
        name: "request-512",
        values: &[value("calls/s", Some(Goal::AtLeast(0.85)))],
        set_up: |url| requests::set_up(url, 512).boxed(),
    },
    Scenario {
        name: "events-1-consumer",
        values: &[value("events/s", Some(Goal::AtLeast(1.0)))],
        set_up: |url| events::set_up(url, 1).boxed(),
    },
    Scenario {
        name: "events-2-consumers",
        values: &[value("events/s", Some(Goal::AtLeast(1.0)))],
        set_up: |url| events::set_up(url, 2).boxed(),
    },
    Scenario {
        name: "emit",
        values: &[value("events/s", Some(Goal::AtLeast(1.0)))],
        set_up: |url| events::set_up(url, 0).boxed(),
    },
];
