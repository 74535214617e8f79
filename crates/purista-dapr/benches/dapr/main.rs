//! The bridge beside the raw client `reqwest` and apps of `axum`: the same work, the same guarantees, the same sidecars.
//!
//! Run all of it, or the scenarios whose names contain a word:
//!
//! ```sh
//! cargo bench -p purista-dapr --bench dapr
//! cargo bench -p purista-dapr --bench dapr -- request-64 --rounds 15 --seconds 1
//! cargo bench -p purista-dapr --bench dapr -- request-64 --who ours # one contender, for a profile
//! ```
//!
//! How it is measured, and what the table says, is in [`purista_integration_tests::bench`]. All contenders send to one
//! sidecar; services and consumers are behind another one of the same configuration, that of the bridge or that of the raw
//! app. The sidecars have the configuration of the tests, and RabbitMQ has its defaults, also for how often it collects
//! statistics.
//!
//! **Contenders.** The payload is 256 bytes of JSON. The raw client makes its requests in advance, and sends them over
//! connections that are kept. The raw app reads them, and answers at once.
//!
//! - `raw-a`: the bare payload on a short path or topic. The sidecar publishes it as it is (`rawPayload`).
//! - `raw-wrapped`: the bare payload, of which the sidecar makes a CloudEvent, as it does by default.
//! - `raw-c`: all that the bridge puts on the wire: its paths and headers, its envelopes in requests and answers, and its
//!   CloudEvents. Nobody could do that faster, as nothing is made or understood.
//! - `ours`: the bridge with its defaults, called with whole drafts.
//!
//! **Guarantees.** Requests have a time limit with anybody. In the scenarios of RabbitMQ, events are persistent and
//! confirmed, and queues durable. The sidecar of a consumer takes so many messages at once as a subscription handles by
//! default, 64, and acknowledges each after the app has answered. A round of events ends when all is handled; after the
//! last one no message may be left.
//!
//! **Emit.** Nobody subscribes to these events.

mod bridge;
mod client;
mod events;
mod place;
mod raw_calls;
mod raw_events;
mod requests;
mod scenario;
mod server;
mod wire;

use purista_integration_tests::{
    bench,
    rabbitmq::{RabbitConfig, RabbitServer},
};

fn main() -> anyhow::Result<()> {
    bench::run(scenario::IN_MEMORY, async || Ok(()))?;
    bench::run(scenario::RABBITMQ, || {
        RabbitServer::start(RabbitConfig::default().with_lines("collect_statistics_interval = 5000"))
    })
}
