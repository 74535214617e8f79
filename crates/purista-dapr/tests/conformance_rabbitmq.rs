//! The conformance suite on sidecars whose component is a RabbitMQ.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::DaprProfile::RABBITMQ, profile::TABLE)
}
