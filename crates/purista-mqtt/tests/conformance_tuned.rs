//! The conformance suite on a Mosquitto with the configuration that this crate ships, and persistent sessions.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::MqttProfile::TUNED, profile::TABLE)
}
