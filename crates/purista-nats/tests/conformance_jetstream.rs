//! The conformance suite on NATS with JetStream.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::NatsProfile::JETSTREAM, profile::TABLE)
}
