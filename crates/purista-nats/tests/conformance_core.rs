//! The conformance suite on core NATS, without JetStream.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::NatsProfile::CORE, profile::TABLE)
}
