//! Services of ours see what the original emits.

use bytes::Bytes;
use purista_core::{EventBridge as _, Filter, MessageType};
use serde_json::Value;

use super::{
    peer::header_map,
    samples::{Event, event, events},
};
use crate::support::{Place, durable, in_order, settled, watch};

async fn emit(place: &Place, client: &async_nats::Client, event: &Event, bytes: Bytes) {
    let subject = place.here(&event.subject);
    match &event.headers {
        Some(headers) => client.publish_with_headers(subject, header_map(headers), bytes).await.unwrap(),
        None => client.publish(subject, bytes).await.unwrap(),
    }
}

/// The message as it came, with what the original left out.
fn as_sent(message: &purista_core::Message, sample: &Event) -> Value {
    let mut came: Value = serde_json::from_slice(&message.encode()).unwrap();
    let fields = came.as_object_mut().unwrap();
    for left_out in ["id", "timestamp"].into_iter().filter(|key| sample.body.get(key).is_none()) {
        let filled_in = fields.remove(left_out).unwrap();
        assert!(filled_in.as_u64().is_some() || filled_in.as_str().unwrap().len() == 32, "{filled_in}");
    }
    came
}

async fn all_arrive(has_jetstream: bool) {
    let place = Place::shared(has_jetstream).await;
    let (bridge, client, samples) = (place.bridge().await, place.client().await, events());
    let all = watch(&bridge, "all", Filter::any(), in_order()).await.unwrap();
    let mut narrow = Vec::new();
    for sample in &samples {
        let filter = sample.narrowest_filter();
        let expected: Vec<_> = samples.iter().filter(|other| filter.matches(&other.message())).collect();
        let seen = watch(&bridge, &sample.case, filter, in_order()).await.unwrap();
        narrow.push((sample, expected, seen));
    }

    for sample in &samples {
        emit(&place, &client, sample, sample.body.to_string().into()).await;
    }
    all.at_least(samples.len()).await.unwrap();
    for (sample, expected, seen) in &narrow {
        seen.at_least(expected.len()).await.unwrap();
        assert!(expected.iter().any(|other| other.case == sample.case));
    }
    // What came twice would have come before these.
    for sample in &samples {
        emit(&place, &client, sample, sample.body.to_string().into()).await;
    }
    all.at_least(2 * samples.len()).await.unwrap();
    for (message, sample) in all.messages().iter().zip(samples.iter().cycle()) {
        assert_eq!(as_sent(message, sample), sample.body, "{}", sample.case);
    }
    for (sample, expected, seen) in narrow {
        seen.at_least(2 * expected.len()).await.unwrap();
        let came: Vec<_> = seen.messages();
        assert_eq!(came.len(), 2 * expected.len(), "{}: {came:?}", sample.case);
        for (message, expected) in came.iter().zip(expected.iter().cycle()) {
            assert_eq!(as_sent(message, expected), expected.body, "{}", sample.case);
        }
    }
    assert_eq!(bridge.stats().malformed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_arrives() {
    all_arrive(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_arrives_without_jetstream() {
    all_arrive(false).await;
}

/// JetStream keeps it all the same, and it is acknowledged as any other.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_emits_waits_for_a_durable_subscriber() {
    let place = Place::shared(true).await;
    let (client, plain, derived) = (place.client().await, event("plain"), event("derived"));
    let filter = Filter::message_type(MessageType::CustomMessage);
    let options = || durable().with_max_concurrency(1);
    let away = place.bridge().await;
    watch(&away, "durable", filter.clone(), options()).await.unwrap();
    away.shutdown(crate::support::PATIENCE).await;

    emit(&place, &client, &plain, plain.body.to_string().into()).await;
    emit(&place, &client, &derived, derived.body.to_string().into()).await;
    settled(&client).await;
    let back = place.bridge().await;
    let seen = watch(&back, "durable", filter, options()).await.unwrap();
    seen.at_least(2).await.unwrap();
    let came = seen.messages();
    assert_eq!(as_sent(&came[0], &plain), plain.body);
    assert_eq!(as_sent(&came[1], &derived), derived.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_counted_and_passed_over() {
    for has_jetstream in [false, true] {
        let place = Place::shared(has_jetstream).await;
        let (bridge, client, sample) = (place.bridge().await, place.client().await, event("plain"));
        let seen = watch(&bridge, "all", Filter::any(), in_order()).await.unwrap();
        for bytes in [&b""[..], b"{}", b"\"text\"", b"\xff\xfe"] {
            emit(&place, &client, &sample, Bytes::from_static(bytes)).await;
        }
        emit(&place, &client, &sample, sample.body.to_string().into()).await;
        seen.at_least(1).await.unwrap();
        assert_eq!((seen.count(), bridge.stats().malformed), (1, 4));
    }
}
