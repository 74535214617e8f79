//! The bridge beside the raw client `lapin`: the same work, the same guarantees, one RabbitMQ.
//!
//! Run all of it, or the scenarios whose names contain a word:
//!
//! ```sh
//! cargo bench -p purista-amqp --bench amqp
//! cargo bench -p purista-amqp --bench amqp -- request-64 --rounds 15 --seconds 1
//! cargo bench -p purista-amqp --bench amqp -- request-64 --who native # one contender, for a profile
//! ```
//!
//! How it is measured, and what the table says, is in [`purista_integration_tests::bench`]. Each scenario has a virtual
//! host of its own. RabbitMQ has its defaults, also for how often it collects statistics.
//!
//! **Contenders.** The payload is 256 bytes of JSON.
//!
//! - `raw-a`: the bare payload, in the way that RabbitMQ does fastest. Requests go over the default exchange, answers by
//!   direct reply-to, and nothing is acknowledged or confirmed. The service publishes its answers without waiting.
//! - `raw-b`: as `raw-a`, with the bytes of our encoded envelope. What it loses is the price of the envelope's size.
//! - `raw-c`: all that the native topology puts on the wire: its exchanges, properties and headers, with confirms and
//!   acknowledgements. Nobody could do that faster, as nothing is made or understood.
//! - `raw-quorum` and `raw-classic`: the bare payload over the default exchange to a queue of that type.
//! - `native` and `typescript`: the bridge with either topology and its defaults otherwise, called with whole drafts.
//!   Only a subscription's concurrency is not the default of 64 but as many messages as the raw client prefetches.
//!
//! **Guarantees.** Requests have a time limit on both sides. Events are persistent and confirmed. Their queues are durable:
//! quorum queues, but `raw-classic` and `typescript` have classic ones. Consumers acknowledge what was handled, many at
//! once. A round of events ends when all is handled; after the last one no message may be left.
//!
//! **Bindings.** Of so many commands one is called; the others have their consumers. On the raw side they are queues.
//!
//! **Emit.** The queue is a quorum queue of 1,000 messages that drops the oldest ones, for everybody.

mod bindings;
mod bridge;
mod events;
mod raw_calls;
mod raw_events;
mod requests;
mod scenario;
mod wire;
mod wire_calls;

use purista_integration_tests::{
    bench,
    rabbitmq::{RabbitConfig, RabbitServer},
};

fn main() -> anyhow::Result<()> {
    bench::run(scenario::SCENARIOS, || {
        RabbitServer::start(RabbitConfig::default().with_lines("collect_statistics_interval = 5000"))
    })
}
