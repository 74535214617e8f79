//! Subscribers of the original see what services of ours emit.

use std::collections::BTreeMap;

use purista_core::{EmitOptions, EventBridge as _, EventDraft, Payload};
use serde_json::Value;

use super::samples::{Event, events, listener};
use crate::support::{Place, body, next, settled, started};

/// What differs each time, which must be there all the same.
fn take_out_what_differs(message: &mut Value) {
    let fields = message.as_object_mut().unwrap();
    if let Some(id) = fields.remove("id") {
        assert_eq!(id.as_str().unwrap().len(), 32, "{id}");
    }
    if let Some(timestamp) = fields.remove("timestamp") {
        assert!(timestamp.is_u64(), "{timestamp}");
    }
}

async fn same_subjects_and_bodies(has_jetstream: bool) {
    let mut by_instance = BTreeMap::<String, Vec<Event>>::new();
    for event in events() {
        by_instance.entry(event.instance_id().to_owned()).or_default().push(event);
    }
    for (instance_id, samples) in by_instance {
        let place = Place::shared(has_jetstream).await;
        let bridge = started(place.builder().instance_id(instance_id.as_str())).await;
        let (client, everything) = (place.client().await, listener("everything"));
        let pattern = place.here(&everything.pattern);
        let mut subscriber = client.queue_subscribe(pattern, everything.queue.unwrap()).await.unwrap();
        settled(&client).await;
        // The next one shows that each came once.
        for sample in samples.iter().chain(&samples) {
            let sent = bridge.emit_message(sample.draft(), &EmitOptions::default()).await.unwrap();
            let came = next(&mut subscriber).await;
            assert_eq!(came.subject.as_str(), place.here(&sample.subject), "{}", sample.case);
            let mut ours = body(&came);
            assert_eq!(ours["id"], sent.id.to_string());
            assert_eq!(ours["timestamp"], sent.timestamp);
            let mut theirs = sample.body.clone();
            take_out_what_differs(&mut ours);
            take_out_what_differs(&mut theirs);
            assert_eq!(ours, theirs, "{}", sample.case);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_subjects_and_fields_of_the_original() {
    same_subjects_and_bodies(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_subjects_and_fields_of_the_original_without_jetstream() {
    same_subjects_and_bodies(false).await;
}

/// Each subscriber of the original gets what it asks for and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_the_original_narrow_as_there() {
    let place = Place::shared(true).await;
    let (bridge, client) = (place.bridge().await, place.client().await);
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("event", &["userCreated", "last"][..1]),
        ("sender", &["durableEvent"]),
        ("not-shared", &["userCreated"]),
    ]);
    let mut subscribers = Vec::new();
    for (case, wanted) in expected {
        let listener = listener(case);
        let pattern = place.here(&listener.pattern);
        let subscriber = match listener.queue {
            Some(queue) => client.queue_subscribe(pattern, queue).await,
            None => client.subscribe(pattern).await,
        };
        subscribers.push((case, wanted, subscriber.unwrap()));
    }
    settled(&client).await;
    let emit = async |sender: &str, event_name: &str| {
        let draft = EventDraft::event((sender, "1", "peerCall"), event_name);
        let draft = draft.with_payload(Payload::json(event_name).unwrap());
        bridge.emit_message(draft, &EmitOptions::default()).await.unwrap();
    };
    // Each one comes twice, and what does not match stands in between.
    for _round in 0..2 {
        for event_name in ["userCreated", "userDeleted", "durableEvent", "durableEvents"] {
            emit("Caller", event_name).await;
        }
        emit("Called", "durableEvent").await;
    }
    for (case, wanted, mut subscriber) in subscribers {
        for wanted in wanted.iter().cycle().take(2 * wanted.len()) {
            assert_eq!(body(&next(&mut subscriber).await)["payload"], **wanted, "{case}");
        }
    }
}
