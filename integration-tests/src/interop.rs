//! Services of ours and of the TypeScript original work together: the tests that every wire of the original shares.
//!
//! The peers behave as the original was seen to, and its messages are samples of what was seen. An adapter says by a
//! [`Wire`] how the original writes and routes them on its broker, and lists the tests by [`interop_tests!`].
//!
//! [`interop_tests!`]: crate::interop_tests

#![expect(clippy::missing_errors_doc, reason = "all of them fail where a test fails")]
#![expect(missing_docs, reason = "the name of a test says what has to hold")]

pub mod called;
pub mod emitted;
mod frame;
mod peer;
pub mod received;
mod scene;
pub mod served;
pub mod sharing;
mod wire;

pub use frame::{Call, Event, Frame, pattern, route};
pub use peer::{Caller, Service, again, answer_as_in};
pub use scene::{echo, held, in_order, invoke, invoke_within, next, watch};
pub use wire::{Came, Interest, Peer, Subscriber, Whose, Wire};

/// Makes a test of each function that is named, or of all that hold on every wire.
#[macro_export]
macro_rules! interop_tests {
    ($wire:ty) => {
        $crate::interop_tests! {
            $wire:
            called::answers_of_the_original_reach_the_caller,
            called::commands_are_those_of_the_original,
            called::a_command_that_no_peer_serves_is_known_at_once,
            called::an_answer_needs_no_more_than_its_call_and_its_sender,
            called::an_answer_without_a_sender_is_none,
            served::answers_are_those_of_the_original,
            served::a_command_that_announces_an_event_is_served,
            served::a_command_with_the_fewest_fields_is_served,
            served::commands_that_are_none_are_passed_over,
            received::what_the_original_emits_arrives,
            received::an_event_with_the_fewest_fields_arrives,
            received::what_is_no_message_is_counted_and_passed_over,
            emitted::events_are_those_of_the_original,
            emitted::subscriptions_of_the_original_narrow_as_there,
            emitted::a_response_that_announces_an_event_is_seen_by_its_subscribers,
            sharing::we_join_a_command_of_the_original,
            sharing::the_original_joins_a_command_of_ours,
            sharing::ours_leaves_and_the_original_goes_on,
        }
    };
    ($wire:ty: $($subject:ident::$name:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> ::anyhow::Result<()> {
            $crate::interop::$subject::$name::<$wire>().await
        }
    )+};
}
