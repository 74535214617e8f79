//! The TypeScript original as a peer, which knows nothing of JetStream and of our headers: a plain client sends what the
//! original sends, and reads what the original reads.

mod listening;
mod replies;
mod wire;

use wire::Nats;

mod with_jetstream {
    use super::Nats;

    purista_integration_tests::interop_tests!(Nats<true>);
    purista_integration_tests::interop_tests! {
        Nats<true>: received::what_the_original_emits_waits_for_a_durable_subscriber,
    }
}

mod without_jetstream {
    use super::Nats;

    purista_integration_tests::interop_tests!(Nats<false>);
}
