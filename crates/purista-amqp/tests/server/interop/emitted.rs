//! Subscribers of the original see what services of ours emit.

use std::collections::BTreeMap;

use lapin::options::QueueDeclareOptions;
use purista_core::{EmitOptions, EventBridge as _, EventDraft, Payload};
use serde_json::json;

use super::{
    peer::{Peer, frame, take_out_trace},
    samples::{Event, events},
};
use crate::support::{Place, next, started};

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_properties_and_fields_of_the_original() {
    let mut by_instance = BTreeMap::<String, Vec<Event>>::new();
    for event in events() {
        by_instance.entry(event.frame.instance_id().to_owned()).or_default().push(event);
    }
    for (instance_id, samples) in by_instance {
        let place = Place::shared().await;
        let bridge = started(place.typescript().instance_id(instance_id.as_str())).await;
        let peer = Peer::new(&place).await;
        let options = QueueDeclareOptions::default();
        let mut queue = peer.listen("purista.sub.PeerSubscriber.1.all", options, &[]).await;
        // The next one shows that each came once.
        for sample in samples.iter().chain(&samples) {
            let sent = bridge.emit_message(sample.draft(), &EmitOptions::default()).await.unwrap();
            let mut ours = frame(&next(&mut queue).await);
            let mut theirs = sample.frame.clone();
            assert!(take_out_trace(&mut theirs.properties).is_some());
            assert_eq!(take_out_trace(&mut ours.properties), None);
            let (id, timestamp) = (json!(sent.id.to_string()), json!(sent.timestamp));
            (theirs.properties["messageId"], theirs.properties["timestamp"]) =
                (id.clone(), timestamp.clone());
            (theirs.body["id"], theirs.body["timestamp"]) = (id, timestamp);
            assert_eq!(ours.properties, theirs.properties, "{}", sample.case);
            assert_eq!(ours.body, theirs.body, "{}", sample.case);
        }
    }
}

/// Each subscriber of the original gets what it asks for and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_the_original_narrow_as_there() {
    let place = Place::shared().await;
    let (bridge, peer) = (started(place.typescript()).await, Peer::new(&place).await);
    let shared = QueueDeclareOptions::default();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let event = [("messageType", "customMessage"), ("eventName", "userCreated")];
    let sender = [
        ("messageType", "customMessage"),
        ("senderServiceName", "Caller"),
        ("senderServiceVersion", "1"),
        ("eventName", "durableEvent"),
        ("principalId", "principalOne"),
        ("tenantId", "tenantOne"),
    ];
    let of_event = peer.listen("purista.sub.PeerSubscriber.1.event", shared, &event).await;
    let of_sender = peer.listen("purista.sub.PeerSubscriber.1.durableSub", durable, &sender).await;
    let emit = async |sender: &str, event_name: &str, principal: &str| {
        let draft = EventDraft::event((sender, "1", "peerCall"), event_name).with_tenant_id("tenantOne");
        let payload = json!([sender, event_name, principal]);
        let draft = draft.with_principal_id(principal).with_payload(Payload::json(&payload).unwrap());
        bridge.emit_message(draft, &EmitOptions::default()).await.unwrap();
    };
    // Each one comes twice, and what does not match stands in between.
    for _round in 0..2 {
        for event_name in ["userCreated", "userDeleted", "durableEvent", "durableEvents"] {
            emit("Caller", event_name, "principalOne").await;
        }
        emit("Called", "durableEvent", "principalOne").await;
        emit("Caller", "durableEvent", "principalTwo").await;
    }
    for (mut queue, event_name) in [(of_event, "userCreated"), (of_sender, "durableEvent")] {
        for _round in 0..2 {
            let came = frame(&next(&mut queue).await);
            assert_eq!(came.body["payload"], json!(["Caller", event_name, "principalOne"]));
        }
    }
}
