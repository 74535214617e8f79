//! The conformance suite on sidecars with the in-memory component.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::DaprProfile::IN_MEMORY, profile::TABLE)
}
