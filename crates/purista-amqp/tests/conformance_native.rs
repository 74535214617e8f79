//! The conformance suite on RabbitMQ with the native topology.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::AmqpProfile::NATIVE, profile::TABLE)
}
