//! Subscribers of the original see what services of ours emit and answer.

use std::collections::BTreeMap;

use purista_core::{
    CommandDraft, CommandOptions, EmitOptions, EventBridge as _, EventDraft, Payload, ServiceAddress,
};
use serde_json::json;

use super::{
    peer::{EVERYTHING, event_of, frame, take_out_expiry, take_out_user_properties},
    samples::{Event, events},
};
use crate::support::{Place, echo, invoke, serve_with};

#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_topics_properties_and_fields_of_the_original() {
    let mut by_instance = BTreeMap::<String, Vec<Event>>::new();
    for event in events() {
        by_instance.entry(event.frame.instance_id().to_owned()).or_default().push(event);
    }
    for (instance_id, samples) in by_instance {
        let place = Place::stock().await;
        let bridge = place.instance(&instance_id).await;
        let mut peer = place.client().await;
        peer.subscribe(EVERYTHING).await;
        // The next one shows that each came once.
        for sample in samples.iter().chain(&samples) {
            let sent = bridge.emit_message(sample.draft(), &EmitOptions::default()).await.unwrap();
            let ours = frame(&peer.next().await);
            let mut theirs = sample.frame.clone();
            take_out_user_properties(&mut theirs);
            theirs.body["id"] = json!(sent.id.to_string());
            theirs.body["timestamp"] = json!(sent.timestamp);
            assert_eq!(ours, theirs, "{}", sample.case);
        }
    }
}

/// Each subscriber of the original gets what it asks for and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn filters_of_the_original_narrow_as_there() {
    let place = Place::stock().await;
    let (bridge, of_event, of_sender) = (place.bridge().await, place.client().await, place.client().await);
    of_event.subscribe("$share/sharedpurista/purista/custom_message/+/+/+/+/+/+/order_placed/+/+/+/+").await;
    of_sender.subscribe("purista/+/buyer_seven/tenant_north/+/shop/1/+/order_paid/+/+/+/+").await;
    let emit = async |sender: &str, event_name: &str, principal: &str| {
        let draft = EventDraft::event((sender, "1", "checkOut"), event_name).with_tenant_id("tenantNorth");
        let payload = json!([sender, event_name, principal]);
        let draft = draft.with_principal_id(principal).with_payload(Payload::json(&payload).unwrap());
        bridge.emit_message(draft, &EmitOptions::default()).await.unwrap();
    };
    // Each one comes twice, and what does not match stands in between.
    for _round in 0..2 {
        for event_name in ["orderPlaced", "orderPlacing", "orderPaid", "ordersPaid"] {
            emit("Shop", event_name, "buyerSeven").await;
        }
        emit("Shopping", "orderPaid", "buyerSeven").await;
        emit("Shop", "orderPaid", "buyerEight").await;
    }
    for (mut peer, event_name) in [(of_event, "orderPlaced"), (of_sender, "orderPaid")] {
        let came: Vec<_> = peer.all().await.iter().map(|came| frame(came).body["payload"].clone()).collect();
        assert_eq!(came, vec![json!(["Shop", event_name, "buyerSeven"]); 2]);
    }
}

/// A response that announces an event is published once, for its caller and for who listens to the event.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_announces_an_event_is_seen_by_its_subscribers() {
    let place = Place::stock().await;
    let (service, caller, mut peer) = (place.bridge().await, place.bridge().await, place.client().await);
    let options = CommandOptions::default().with_success_event("orderPlaced");
    serve_with(&service, ("Order", "2", "place"), options, echo()).await;
    peer.subscribe(&event_of("orderPlaced")).await;
    let draft = CommandDraft::new(ServiceAddress::client(), ("Order", "2", "place"));
    let response = invoke(&caller, draft.with_payload(Payload::json(&7).unwrap())).await.unwrap();

    let mut came: Vec<_> = peer.all().await.iter().map(frame).collect();
    assert_eq!(came.len(), 1);
    assert_eq!(take_out_expiry(&mut came[0]), 2_592_000);
    let body = &came[0].body;
    assert_eq!(body["id"], response.id.to_string());
    assert_eq!((&body["messageType"], &body["payload"]), (&json!("commandSuccessResponse"), &json!(7)));
    assert_eq!(came[0].topic.split('/').nth(1), Some("command_success_response"));
    assert_eq!(came[0].topic.split('/').nth(8), Some("order_placed"));
}
