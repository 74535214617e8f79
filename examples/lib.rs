//! Examples that run on every event bridge: `cargo run --example quickstart`.
