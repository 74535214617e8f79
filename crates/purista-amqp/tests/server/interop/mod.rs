//! Services of ours and of the TypeScript original work together. The peers here behave as the original was seen to.

mod contradictions;
mod fewest;
mod properties;
mod sharing;
mod wire;

use wire::Amqp;

purista_integration_tests::interop_tests!(Amqp);
purista_integration_tests::interop_tests! {
    Amqp:
    received::answers_of_the_original_are_seen_by_subscribers,
    received::what_the_original_emits_waits_for_a_durable_subscriber,
}
