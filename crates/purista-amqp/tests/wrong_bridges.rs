//! The suite is tested: each bridge that is wrong in what only a broker can show fails the row that is there to catch it.

mod profile;

use purista_conformance::faults::{self, Fault};

fn main() -> std::process::ExitCode {
    faults::main(profile::AmqpProfile::NATIVE, Fault::WITH_BROKER)
}
