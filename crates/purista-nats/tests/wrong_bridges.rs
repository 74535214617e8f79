//! The suite is tested: each bridge that is wrong in what only a broker, or a peer of the TypeScript original, can show
//! fails the row that is there to catch it.

mod profile;

use purista_conformance::faults::{self, Fault};

fn main() -> std::process::ExitCode {
    // The name that the original lets its users choose here stands where nobody asks for a value.
    let beside_original = Fault::WITH_ORIGINAL.iter().filter(|fault| **fault != Fault::IgnoresOriginalNames);
    // Dead letters cannot be sent again here.
    let with_broker = Fault::WITH_BROKER.iter().filter(|fault| **fault != Fault::LosesRedriven);
    let all: Vec<_> = with_broker.chain(beside_original).copied().collect();
    faults::main(profile::NatsProfile::JETSTREAM, &all)
}
