//! Services of ours see what the original emits and answers.

use purista_core::{EventBridge as _, Filter, MessageType};
use serde_json::{Value, json};

use super::{
    peer::send,
    samples::{Event, Frame, call, event, events},
};
use crate::support::{PATIENCE, Place, durable, in_order, started, watch};

/// The message as it came, with what the original left out.
fn as_sent(message: &purista_core::Message, sample: &Value) -> Value {
    let mut came: Value = serde_json::from_slice(&message.encode()).unwrap();
    let fields = came.as_object_mut().unwrap();
    for left_out in ["id", "timestamp", "otp"].into_iter().filter(|key| sample.get(key).is_none()) {
        let filled_in = fields.remove(left_out).unwrap();
        assert!(filled_in.is_u64() || filled_in == "{}" || filled_in.as_str().unwrap().len() == 32);
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_arrives() {
    let place = Place::stock().await;
    let (bridge, peer, samples) = (place.bridge().await, place.client().await, events());
    let all = watch(&bridge, "all", Filter::any(), in_order()).await.unwrap();
    let mut narrow = Vec::new();
    for sample in &samples {
        let filter = sample.narrowest_filter();
        let expected: Vec<&Event> = samples.iter().filter(|it| filter.matches(&it.message())).collect();
        assert!(expected.iter().any(|other| other.case == sample.case));
        let seen = watch(&bridge, &sample.case, filter, in_order()).await.unwrap();
        narrow.push((sample, expected, seen));
    }
    // What came twice would have come before the second round.
    for round in 1..=2 {
        for sample in &samples {
            send(&peer, &sample.frame).await;
        }
        all.at_least(round * samples.len()).await.unwrap();
    }
    assert_eq!(all.count(), 2 * samples.len());
    for (message, sample) in all.messages().iter().zip(samples.iter().cycle()) {
        assert_eq!(as_sent(message, &sample.frame.body), sample.frame.body, "{}", sample.case);
    }
    for (sample, expected, seen) in narrow {
        seen.at_least(2 * expected.len()).await.unwrap();
        let came = seen.messages();
        assert_eq!(came.len(), 2 * expected.len(), "{}: {came:?}", sample.case);
        for (message, expected) in came.iter().zip(expected.iter().cycle()) {
            assert_eq!(as_sent(message, &expected.frame.body), expected.frame.body, "{}", sample.case);
        }
    }
    assert_eq!(bridge.stats().malformed, 0);
}

/// Without properties, and without all in the message that a subscriber can do without.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_the_fewest_fields_arrives() {
    let place = Place::stock().await;
    let (bridge, peer, sample) = (place.bridge().await, place.client().await, event("plain"));
    let seen = watch(&bridge, "byName", Filter::event("orderPlaced"), in_order()).await.unwrap();
    let mut fewest = Frame { properties: json!({}), ..sample.frame.clone() };
    fewest.body.as_object_mut().unwrap().retain(|key, _| !["id", "timestamp", "otp"].contains(&key.as_str()));
    send(&peer, &fewest).await;
    send(&peer, &sample.frame).await;
    seen.at_least(2).await.unwrap();
    assert_eq!(as_sent(&seen.messages()[0], &fewest.body), fewest.body);
    assert_eq!(as_sent(&seen.messages()[1], &sample.frame.body), sample.frame.body);
    assert_eq!((seen.count(), bridge.stats().malformed), (2, 0));
}

/// The original answers one of its own callers.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_original_are_seen_by_subscribers() {
    let place = Place::stock().await;
    let (bridge, peer) = (place.bridge().await, place.client().await);
    let by_event = watch(&bridge, "byEvent", Filter::event("orderPlaced"), in_order()).await.unwrap();
    let errors = Filter::message_type(MessageType::CommandErrorResponse);
    let errors = watch(&bridge, "errors", errors, in_order()).await.unwrap();
    let (announces, fails) = (call("event-response"), call("handled-error"));
    for _round in 0..2 {
        for answer in [call("success").answer(), announces.answer(), fails.answer()] {
            send(&peer, answer).await;
        }
    }
    for (seen, call) in [(by_event, announces), (errors, fails)] {
        seen.at_least(2).await.unwrap();
        assert_eq!(seen.count(), 2, "{}", call.case);
        for message in seen.messages() {
            assert_eq!(as_sent(&message, &call.answer().body), call.answer().body, "{}", call.case);
        }
    }
    // Nobody here had asked for them.
    assert_eq!(bridge.stats().forged_responses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_waits_for_a_durable_subscriber() {
    let place = Place::tuned().await;
    let (peer, plain, derived) = (place.client().await, event("plain"), event("derived"));
    let filter = Filter::message_type(MessageType::CustomMessage);
    let away = started(place.persistent("reader")).await;
    watch(&away, "durable", filter.clone(), durable()).await.unwrap();
    away.shutdown(PATIENCE).await;

    send(&peer, &plain.frame).await;
    send(&peer, &derived.frame).await;
    let back = started(place.persistent("reader")).await;
    let seen = watch(&back, "durable", filter, durable()).await.unwrap();
    seen.at_least(2).await.unwrap();
    for (message, sample) in seen.messages().iter().zip([plain, derived]) {
        assert_eq!(as_sent(message, &sample.frame.body), sample.frame.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_counted_and_passed_over() {
    let place = Place::stock().await;
    let (bridge, peer, sample) = (place.bridge().await, place.client().await, event("plain"));
    let seen = watch(&bridge, "all", Filter::any(), in_order()).await.unwrap();
    for body in ["{}", "\"text\"", "null", "", "{\"messageType\":"] {
        peer.publish(&sample.frame.topic, body, Default::default()).await;
    }
    send(&peer, &sample.frame).await;
    seen.at_least(1).await.unwrap();
    assert_eq!((seen.count(), bridge.stats().malformed), (1, 5));
}
