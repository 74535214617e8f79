//! Services of ours and of the TypeScript original work together. The peers here behave as the original was seen to.

mod properties;
mod wire;

use wire::Mqtt;

purista_integration_tests::interop_tests!(Mqtt);
purista_integration_tests::interop_tests! {
    Mqtt:
    received::answers_of_the_original_are_seen_by_subscribers,
    received::what_the_original_emits_waits_for_a_durable_subscriber,
}
