//! The conformance suite on RabbitMQ with the topology of the TypeScript original.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::AmqpProfile::TYPESCRIPT, profile::TABLE)
}
