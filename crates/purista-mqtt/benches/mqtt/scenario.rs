use futures_util::FutureExt as _;
use purista_integration_tests::{
    bench::{Comparison, Goal, Scenario},
    mosquitto::MosquittoServer,
};

use crate::{events, requests};

const RAW: &[&str] = &["raw-a", "raw-b", "raw-c", "raw-slow"];

const fn ours(goals: &'static [Option<Goal>]) -> Comparison {
    Comparison::new("ours", RAW, goals)
}

const ONE_BY_ONE: &[Comparison] = &[ours(&[Some(Goal::AtMost(1.2)), None])];
const EVENTS: &[Comparison] = &[ours(&[Some(Goal::AtLeast(0.9))])];

/// What is measured with a broker as Debian ships it.
pub(crate) const STOCK: &[Scenario<MosquittoServer>] =
    &[Scenario::one_by_one("stock-request-1", ONE_BY_ONE, |server| {
        requests::set_up(server, 1, true).boxed()
    })];

/// What is measured with a broker that is configured for this bridge.
pub(crate) const TUNED: &[Scenario<MosquittoServer>] = &[
    Scenario::one_by_one("request-1", ONE_BY_ONE, |server| requests::set_up(server, 1, false).boxed()),
    Scenario::in_flight("request-64", &["calls/s"], &[ours(&[])], |server| {
        requests::set_up(server, 64, false).boxed()
    }),
    Scenario::in_flight("request-512", &["calls/s"], &[ours(&[])], |server| {
        requests::set_up(server, 512, false).boxed()
    }),
    Scenario::in_flight("events-1-consumer", &["events/s"], EVENTS, |server| {
        events::set_up(server, 1).boxed()
    }),
    Scenario::in_flight("events-2-consumers", &["events/s"], EVENTS, |server| {
        events::set_up(server, 2).boxed()
    }),
    Scenario::in_flight("emit", &["events/s"], EVENTS, |server| events::set_up(server, 0).boxed()),
];
