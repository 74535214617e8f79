//! The conformance suite on a Mosquitto as Debian configures it.

mod profile;

fn main() -> std::process::ExitCode {
    purista_conformance::main(profile::MqttProfile::STOCK, profile::TABLE)
}
