use futures_util::FutureExt as _;
use purista_integration_tests::{
    bench::{Comparison, Goal, Scenario},
    nats::NatsServer,
};

use crate::{events, requests};

const RAW: &[&str] = &["raw-a", "raw-b", "raw-c"];

const fn ours(goals: &'static [Option<Goal>]) -> Comparison {
    Comparison::new("ours", RAW, goals)
}

const EVENTS: &[Comparison] = &[ours(&[Some(Goal::AtLeast(1.0))])];

/// Everything that can be measured.
pub(crate) const SCENARIOS: &[Scenario<NatsServer>] = &[
    Scenario::one_by_one("request-1", &[ours(&[Some(Goal::AtMost(1.1)), None])], |server| {
        requests::set_up(server.url().to_owned(), 1).boxed()
    }),
    Scenario::in_flight("request-64", &["calls/s"], &[ours(&[])], |server| {
        requests::set_up(server.url().to_owned(), 64).boxed()
    }),
    Scenario::in_flight("request-512", &["calls/s"], &[ours(&[Some(Goal::AtLeast(0.85))])], |server| {
        requests::set_up(server.url().to_owned(), 512).boxed()
    }),
    Scenario::in_flight("events-1-consumer", &["events/s"], EVENTS, |server| {
        events::set_up(server.url().to_owned(), 1).boxed()
    }),
    Scenario::in_flight("events-2-consumers", &["events/s"], EVENTS, |server| {
        events::set_up(server.url().to_owned(), 2).boxed()
    }),
    Scenario::in_flight("emit", &["events/s"], EVENTS, |server| {
        events::set_up(server.url().to_owned(), 0).boxed()
    }),
];
