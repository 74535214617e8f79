//! The suite is tested: rows that show their promise another way here than on other brokers still catch a wrong bridge.
//! The other wrong bridges are tried on NATS.

mod profile;

use purista_conformance::faults::{self, Fault};

fn main() -> std::process::ExitCode {
    faults::main(
        profile::MqttProfile::TUNED,
        &[Fault::EmitsUnconfirmed, Fault::LosesCancelledConsumers, Fault::IgnoresOriginalNames],
    )
}
