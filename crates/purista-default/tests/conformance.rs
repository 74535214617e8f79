//! The conformance suite on the default bridge.

mod profile;

fn main() -> std::process::ExitCode {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/capabilities.md");
    purista_conformance::main(profile::DefaultProfile, table)
}
