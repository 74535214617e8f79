//! Properties and headers of AMQP: whatever a peer sets, attempts and time limits stay within bounds, and what is given
//! back can be sent.

use lapin::{BasicProperties, protocol::basic, types::ShortString};
use purista_amqp::fuzzing as amqp;
use purista_core::{EventDraft, Id, MAX_TIMEOUT};

use crate::{Verdict, input};

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let Some((&flags, data)) = data.split_first() else { return Verdict::Refused };
    // Most of it is no text: only with this flag, repetitions are written out.
    let written_out = input::expand(data);
    let data = if flags & 2 == 0 { data } else { &written_out };
    let Ok((_, properties)) = basic::parse_properties(data) else { return Verdict::Refused };
    for redelivered in [false, true] {
        let beside = amqp::beside(&properties, redelivered);
        assert!(beside.time_limit.is_none_or(|limit| limit <= MAX_TIMEOUT), "{beside:?}");
        let [given_back, by_broker, total] = beside.more;
        assert!(total >= given_back.max(by_broker));
        assert!(amqp::attempt(&properties, redelivered) >= total.max(1));
        let again = amqp::given_back(&properties, total);
        let names: Vec<_> = again.headers().iter().flat_map(|headers| headers.inner().keys()).collect();
        let goes_elsewhere =
            |name: &&ShortString| matches!(name.as_str(), "CC" | "x-delivery-count" | "x-death");
        assert!(!names.iter().any(goes_elsewhere), "{names:?}");
        let counted = amqp::beside(&again, false);
        assert_eq!((counted.more[0], counted.more[2]), (total, total));
        assert_eq!(
            (counted.time_limit.is_some(), counted.is_refusal),
            (beside.time_limit.is_some(), beside.is_refusal)
        );
        check_form(&again);
    }
    let message = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::from("web"));
    let contradiction = amqp::contradicts(&message, properties.headers().as_ref());
    let is_there = |name: &str| properties.headers().as_ref().is_some_and(|it| it.inner().contains_key(name));
    assert!(contradiction.is_none_or(is_there));
    Verdict::Accepted
}

/// It is written and read to the same bytes.
fn check_form(properties: &BasicProperties) {
    let write = |properties: &BasicProperties| {
        let written = basic::gen_properties(properties)(Vec::new().into()).expect("it has a form");
        written.write
    };
    let written = write(properties);
    let (rest, again) = basic::parse_properties(&written[..]).expect("what was written is read");
    assert!(rest.is_empty());
    assert_eq!(write(&again), written);
}
