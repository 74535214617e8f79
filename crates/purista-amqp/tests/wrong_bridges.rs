//! The suite is tested: a bridge that is wrong in what only this adapter claims fails the row that is there to catch it.
//! The other wrong bridges are tried on NATS, whose servers start faster.

mod profile;

use purista_conformance::faults::{self, Fault};

fn main() -> std::process::ExitCode {
    let faults = [Fault::AcknowledgesCommandsTooEarly, Fault::FailsNeighbours, Fault::LosesRedriven];
    faults::main(profile::AmqpProfile::NATIVE, &faults)
}
