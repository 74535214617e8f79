//! The suite is tested: each wrong bridge fails the row that is there to catch it.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::faults::main(profile::DefaultProfile, purista_conformance::faults::Fault::ALL)
}
