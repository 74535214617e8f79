//! The trials, by theme.

mod access;
mod acknowledge;
mod blocking;
mod cloud_events;
mod consumers;
mod crashes;
mod dead_letters;
mod durable;
mod envelope;
mod errors;
mod groups;
mod health;
mod identity;
mod invoke;
mod leaks;
mod lifecycle;
mod limits;
mod matching;
mod neighbours;
mod network;
mod numbers;
mod observe;
mod order;
mod original_calls;
mod original_events;
mod original_refusals;
mod payload;
mod poison;
mod pressure;
mod restarts;
mod runtime;
mod secrets;
mod security;
mod shutdown;
mod stoppages;
mod time_left;
mod timeouts;

use crate::case::Case;

const THEMES: &[&[Case]] = &[
    access::CASES,
    acknowledge::CASES,
    blocking::CASES,
    cloud_events::CASES,
    consumers::CASES,
    crashes::CASES,
    dead_letters::CASES,
    durable::CASES,
    envelope::CASES,
    errors::CASES,
    groups::CASES,
    health::CASES,
    identity::CASES,
    invoke::CASES,
    leaks::CASES,
    lifecycle::CASES,
    limits::CASES,
    matching::CASES,
    neighbours::CASES,
    network::CASES,
    numbers::CASES,
    observe::CASES,
    order::CASES,
    original_calls::CASES,
    original_events::CASES,
    original_refusals::CASES,
    payload::CASES,
    poison::CASES,
    pressure::CASES,
    restarts::CASES,
    runtime::CASES,
    secrets::CASES,
    security::CASES,
    shutdown::CASES,
    stoppages::CASES,
    time_left::CASES,
    timeouts::CASES,
];

/// Rows whose trials measure time, and run alone for that.
const MEASURE_TIME: &[&str] = &[
    "ACK-4", "ACK-6", "LIF-1", "LIF-10", "LIM-3", "LIM-5", "NET-4", "NET-10", "RPC-4", "TMO-1", "TMO-2",
    "TMO-3", "TMO-4", "TMO-5",
];

/// Rows whose trials hold threads, and how many the runtime then has.
const HOLD_THREADS: &[(&str, usize)] = &[("LIM-6", 8)];

/// Returns how many threads the runtime of a trial has.
pub(crate) fn threads(row: &str) -> usize {
    HOLD_THREADS.iter().find(|(id, _)| *id == row).map_or(2, |(_, threads)| *threads)
}

pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    THEMES.iter().copied().flatten()
}

pub(crate) fn measures_time(row: &str) -> bool {
    MEASURE_TIME.contains(&row)
}
