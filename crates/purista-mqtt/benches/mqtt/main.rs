//! The bridge beside the raw client `rumqttc`: the same work, the same guarantees, one Mosquitto.
//!
//! Run all of it, or the scenarios whose names contain a word:
//!
//! ```sh
//! cargo bench -p purista-mqtt --bench mqtt
//! cargo bench -p purista-mqtt --bench mqtt -- request-512 --rounds 15 --seconds 1
//! cargo bench -p purista-mqtt --bench mqtt -- request-512 --who ours # one contender, for a profile
//! ```
//!
//! How it is measured, and what the table says, is in [`purista_integration_tests::bench`]. Mosquitto has the
//! configuration that comes with the crate; in the scenario `stock-request-1` it is as Debian ships it, which collects
//! small packets (Nagle). The goal there is a median below 1 ms, too.
//!
//! **Contenders.** The payload is 256 bytes of JSON.
//!
//! - `raw-a`: the bare payload on a short topic. The service answers without waiting for the acknowledgement of an answer,
//!   and nobody waits for that of a request.
//! - `raw-b`: as `raw-a`, with the bytes of our encoded envelope. What it loses is the price of the envelope's size.
//! - `raw-c`: all that the bridge puts on the wire: its topics and filters, properties, and subscription identifiers; the
//!   caller waits until the broker has taken its request. Nobody could do that faster, as nothing is made or understood.
//! - `raw-slow`: as `raw-a`, but the kernel decides when to send and to acknowledge.
//! - `ours`: the bridge with its defaults, called with whole drafts. Only a subscription's concurrency is not the default
//!   of 64 but as many messages as the raw client has in hand.
//!
//! All but `raw-slow` send and acknowledge at once (`TCP_NODELAY`, `TCP_QUICKACK`). The raw client handles what comes where
//! it reads it.
//!
//! **Guarantees.** All is published at quality of service 1. Requests have a time limit on both sides. Events are
//! acknowledged by the broker; their consumers have sessions that the broker keeps, and acknowledge each message after it
//! was handled. After the last round no message may be left.
//!
//! **Emit.** Nobody subscribes to these events.

mod bridge;
mod client;
mod events;
mod raw_calls;
mod raw_events;
mod requests;
mod scenario;
mod socket;
mod wire;

use purista_integration_tests::{
    bench,
    mosquitto::{MosquittoConfig, MosquittoServer},
};

fn main() -> anyhow::Result<()> {
    bench::run(scenario::STOCK, || MosquittoServer::start(MosquittoConfig::stock()))?;
    bench::run(scenario::TUNED, || MosquittoServer::start(MosquittoConfig::tuned()))
}
