//! The bridge beside the raw client `async-nats`: the same work, the same guarantees, one nats-server.
//!
//! Run all of it, or the scenarios whose names contain a word:
//!
//! ```sh
//! cargo bench -p purista-nats --bench nats
//! cargo bench -p purista-nats --bench nats -- request-512 --rounds 15 --seconds 1
//! cargo bench -p purista-nats --bench nats -- request-512 --who ours # one contender, for a profile
//! ```
//!
//! How it is measured, and what the table says, is in [`purista_integration_tests::bench`]. The nats-server has its
//! defaults and JetStream.
//!
//! **Contenders.** The payload is 256 bytes of JSON.
//!
//! - `raw-a`: the bare payload on a short subject.
//! - `raw-b`: as `raw-a`, with the bytes of our encoded envelope. What it loses is the price of the envelope's size.
//! - `raw-c`: all that the bridge puts on the wire: its subjects and patterns, its headers, and the copy of a response
//!   that goes to subscriptions on responses. Nobody could do that faster, as nothing is made or understood.
//! - `ours`: the bridge with its defaults, called with whole drafts. Only a subscription's concurrency is not the default
//!   of 64 but as many messages as the raw client asks for at once.
//!
//! **Guarantees.** Requests have a time limit on both sides. Events carry a message id, by which the server recognises
//! what is sent again, in a stream with the configuration of ours, and the publish is acknowledged. Consumers are durable,
//! with the configuration of ours, and acknowledge each message after it was handled. A round of events ends when the
//! server has all acknowledgements.

mod bridge;
mod events;
mod jetstream;
mod requests;
mod scenario;
mod wire;

use purista_integration_tests::{
    bench,
    nats::{NatsConfig, NatsServer},
};

fn main() -> anyhow::Result<()> {
    bench::run(scenario::SCENARIOS, || NatsServer::start(NatsConfig::jetstream()))
}
