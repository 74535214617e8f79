//! The suite is tested: each bridge that is wrong in what only a broker, or a peer of the TypeScript original, can show
//! fails the row that is there to catch it.

mod profile;

use purista_conformance::faults::{self, Fault};

fn main() -> std::process::ExitCode {
    faults::main(profile::NatsProfile::JETSTREAM, &[Fault::WITH_BROKER, Fault::WITH_ORIGINAL].concat())
}
