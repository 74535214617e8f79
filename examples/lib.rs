//! Examples, each of one idea: `cargo run --example quickstart`. The bridge within one process is there without features;
//! `--features nats` and so on add brokers. What each prints is in the folder `output`.
