use futures_util::FutureExt as _;
use purista_integration_tests::{
    bench::{Comparison, Goal, Scenario},
    rabbitmq::RabbitServer,
};

use crate::{bindings, events, requests};

const RAW: &[&str] = &["raw-a", "raw-b", "raw-c"];
const NINE_TENTHS: &[Option<Goal>] = &[Some(Goal::AtLeast(0.9))];

const CALLS: &[Comparison] = &[Comparison::new("native", RAW, &[]), Comparison::new("typescript", RAW, &[])];

const CALLS_64: &[Comparison] =
    &[Comparison::new("native", RAW, NINE_TENTHS), Comparison::new("typescript", RAW, &[])];

const BINDINGS: &[Comparison] = &[
    Comparison::new("native-1000", &["native-1"], &[Some(Goal::AtLeast(0.8))]),
    Comparison::new("native-100", &["native-1", "raw-100"], &[]),
    Comparison::new("native-1000", &["raw-1000"], &[]),
    Comparison::new("typescript-1", &["raw-1"], &[]),
    Comparison::new("typescript-100", &["typescript-1", "raw-100"], &[]),
    Comparison::new("typescript-1000", &["typescript-1", "raw-1000"], &[]),
    Comparison::new("raw-1000", &["raw-1"], &[]),
];

const EVENTS: &[Comparison] = &[
    Comparison::new("native", &["raw-quorum"], NINE_TENTHS),
    Comparison::new("native", &["raw-c"], &[]),
    Comparison::new("typescript", &["raw-classic"], NINE_TENTHS),
];

const EMIT: &[Comparison] = &[
    Comparison::new("native", &["raw-quorum"], NINE_TENTHS),
    Comparison::new("native", &["raw-c"], &[]),
    Comparison::new("typescript", &["raw-quorum"], NINE_TENTHS),
];

/// Everything that can be measured.
pub(crate) const SCENARIOS: &[Scenario<RabbitServer>] = &[
    Scenario::one_by_one("request-1", CALLS, |server| requests::set_up(server, 1).boxed()),
    Scenario::in_flight("request-64", &["calls/s"], CALLS_64, |server| requests::set_up(server, 64).boxed()),
    Scenario::in_flight("request-512", &["calls/s"], CALLS, |server| requests::set_up(server, 512).boxed()),
    Scenario::in_flight("bindings", &["calls/s"], BINDINGS, |server| bindings::set_up(server).boxed()),
    Scenario::in_flight("events-1-consumer", &["events/s"], EVENTS, |server| {
        events::set_up(server, 1).boxed()
    }),
    Scenario::in_flight("events-2-consumers", &["events/s"], EVENTS, |server| {
        events::set_up(server, 2).boxed()
    }),
    Scenario::in_flight("emit", &["events/s"], EMIT, |server| events::set_up(server, 0).boxed()),
];
