//! Services of ours see what the original emits.

use purista_core::{EventBridge as _, Filter, MessageType};
use serde_json::{Value, json};

use super::{
    peer::Peer,
    samples::{Event, Frame, event, events},
};
use crate::support::{PATIENCE, Place, durable, started, transient, watch};

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
    let place = Place::shared().await;
    let (bridge, peer, samples) = (started(place.typescript()).await, Peer::new(&place).await, events());
    let (all, _) = watch(&bridge, "all", Filter::any(), transient()).await.unwrap();
    let mut narrow = Vec::new();
    for sample in &samples {
        let filter = sample.narrowest_filter();
        let expected: Vec<&Event> = samples.iter().filter(|it| filter.matches(&it.message())).collect();
        assert!(expected.iter().any(|other| other.case == sample.case));
        let (seen, _) = watch(&bridge, &sample.case, filter, transient()).await.unwrap();
        narrow.push((sample, expected, seen));
    }
    // What came twice would have come before the second round.
    for round in 1..=2 {
        for sample in &samples {
            peer.send(&sample.frame).await;
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

/// Without id, time and trace context, and with the headers alone that lead to the subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_the_fewest_fields_arrives() {
    let place = Place::shared().await;
    let (bridge, peer, sample) = (started(place.typescript()).await, Peer::new(&place).await, event("plain"));
    let (by_name, _) = watch(&bridge, "byName", Filter::event("userCreated"), transient()).await.unwrap();
    let (all, _) = watch(&bridge, "all", Filter::any(), transient()).await.unwrap();
    let mut fewest = sample.frame.clone();
    fewest.body.as_object_mut().unwrap().retain(|key, _| !["id", "timestamp", "otp"].contains(&key.as_str()));
    let encoding = json!({ "contentType": "application/json", "contentEncoding": "utf-8" });
    fewest.properties = encoding.clone();
    fewest.properties["headers"] = json!({ "eventName": "userCreated" });
    peer.send(&fewest).await;
    // Nothing but the subscriber of everything is bound to what this one has.
    let unheaded = Frame { properties: encoding, body: fewest.body.clone() };
    peer.send(&unheaded).await;
    peer.send(&sample.frame).await;
    all.at_least(3).await.unwrap();
    by_name.at_least(2).await.unwrap();
    assert_eq!(as_sent(&by_name.messages()[0], &fewest.body), fewest.body);
    assert_eq!(as_sent(&by_name.messages()[1], &sample.frame.body), sample.frame.body);
    assert_eq!((all.count(), by_name.count(), bridge.stats().malformed), (3, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_waits_for_a_durable_subscriber() {
    let place = Place::shared().await;
    let (peer, plain, derived) = (Peer::new(&place).await, event("plain"), event("derived"));
    let filter = Filter::message_type(MessageType::CustomMessage);
    let away = started(place.typescript()).await;
    watch(&away, "durable", filter.clone(), durable()).await.unwrap();
    away.shutdown(PATIENCE).await;

    peer.send(&plain.frame).await;
    peer.send(&derived.frame).await;
    let back = started(place.typescript()).await;
    let (seen, _) = watch(&back, "durable", filter, durable()).await.unwrap();
    seen.at_least(2).await.unwrap();
    for (message, sample) in seen.messages().iter().zip([plain, derived]) {
        assert_eq!(as_sent(message, &sample.frame.body), sample.frame.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_counted_and_passed_over() {
    let place = Place::shared().await;
    let (bridge, peer, sample) = (started(place.typescript()).await, Peer::new(&place).await, event("plain"));
    let (seen, _) = watch(&bridge, "all", Filter::any(), transient()).await.unwrap();
    for body in [json!({}), json!("text"), json!(null)] {
        peer.send(&Frame { properties: sample.frame.properties.clone(), body }).await;
    }
    peer.send(&sample.frame).await;
    seen.at_least(1).await.unwrap();
    assert_eq!((seen.count(), bridge.stats().malformed), (1, 3));
}
