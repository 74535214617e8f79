use futures_util::FutureExt as _;
use purista_integration_tests::{
    bench::{Comparison, Goal, Scenario},
    rabbitmq::RabbitServer,
};

use crate::{events, requests};

const RAW: &[&str] = &["raw-a", "raw-wrapped", "raw-c"];

const fn ours(goals: &'static [Option<Goal>]) -> Comparison {
    Comparison::new("ours", RAW, goals)
}

const ONE_BY_ONE: &[Comparison] = &[ours(&[Some(Goal::AtMost(1.0 / 0.9)), None])];
const IN_FLIGHT: &[Comparison] = &[ours(&[Some(Goal::AtLeast(0.9))])];

/// What is measured without a broker.
pub(crate) const IN_MEMORY: &[Scenario<()>] = &[
    Scenario::one_by_one("request-1", ONE_BY_ONE, |_| requests::set_up(1).boxed()),
    Scenario::in_flight("request-64", &["calls/s"], IN_FLIGHT, |_| requests::set_up(64).boxed()),
    Scenario::in_flight("emit-in-memory", &["events/s"], IN_FLIGHT, |_| events::in_memory().boxed()),
];

/// What is measured with a broker behind the sidecars.
pub(crate) const RABBITMQ: &[Scenario<RabbitServer>] = &[
    Scenario::in_flight("emit-rabbitmq", &["events/s"], IN_FLIGHT, |server| {
        events::rabbitmq(server, false).boxed()
    }),
    Scenario::in_flight("events-1-consumer", &["events/s"], IN_FLIGHT, |server| {
        events::rabbitmq(server, true).boxed()
    }),
];
