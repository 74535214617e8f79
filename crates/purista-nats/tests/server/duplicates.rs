//! A message that is published again, as after a lost acknowledgement.

use async_nats::HeaderMap;
use purista_core::{EmitOptions, EventBridge as _, EventDraft, Filter, Payload, ServiceAddress};

use crate::support::{Place, durable, in_order, next, settled, watch};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_published_again_comes_once() {
    let place = Place::shared(true).await;
    let (bridge, client) = (place.bridge().await, place.client().await);
    let transient = watch(&bridge, "transient", Filter::event("happened"), in_order()).await.unwrap();
    let options = durable().with_max_concurrency(1);
    let kept = watch(&bridge, "durable", Filter::event("happened"), options).await.unwrap();
    let mut wire = client.subscribe(place.here("purista.custom_message.>")).await.unwrap();
    settled(&client).await;

    let draft = |payload: &str| {
        let draft = EventDraft::event(ServiceAddress::client(), "happened");
        draft.with_payload(Payload::json(payload).unwrap())
    };
    let sent = bridge.emit_message(draft("once"), &EmitOptions::default()).await.unwrap();
    let original = next(&mut wire).await;
    let id = original.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().as_str();
    assert_eq!(id, sent.id.to_string());
    let publish = async |id: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        let context = place.jetstream().await;
        let payload = original.payload.clone();
        let acknowledged = context.publish_with_headers(original.subject.clone(), headers, payload).await;
        acknowledged.unwrap().await.unwrap().duplicate
    };
    assert!(publish(id).await && publish(id).await, "the server does not know it");
    assert!(!publish("another").await, "the server takes all for the same");
    bridge.emit_message(draft("sentinel"), &EmitOptions::default()).await.unwrap();
    for seen in [transient, kept] {
        seen.sentinel("\"sentinel\"").await.unwrap();
        assert_eq!(seen.payloads(), ["\"once\"", "\"once\"", "\"sentinel\""]);
    }
}
