//! Examples that run on every event bridge: `cargo run --example quickstart`. The bridge within one process is there without
//! features; `--features nats` and so on add brokers.
