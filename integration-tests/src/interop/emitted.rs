//! Subscribers of the original see what services of ours emit and answer.

use std::collections::BTreeMap;

use anyhow::Result;
use purista_core::{
    CommandDraft, CommandOptions, EmitOptions, EventBridge as _, EventDraft, Payload, ServiceAddress,
};
use serde_json::json;

use super::{
    frame::Event,
    scene::{echo, next, same, serve},
    wire::{Interest, Subscriber, Whose, Wire},
};
use crate::samples;

pub async fn events_are_those_of_the_original<W: Wire>() -> Result<()> {
    let mut by_instance = BTreeMap::<String, Vec<Event>>::new();
    for event in W::events()? {
        by_instance.entry(event.frame.instance_id().to_owned()).or_default().push(event);
    }
    for (instance_id, samples) in by_instance {
        let wire = W::start().await;
        let (bridge, peer) = (wire.bridge(Some(&instance_id)).await, wire.peer().await);
        let mut came = peer.listen(Interest::Subscription(Subscriber::new("all", &[]))).await;
        // The next one shows that each came once.
        for sample in samples.iter().chain(&samples) {
            let sent = bridge
                .emit_message(samples::event_draft(&sample.frame.body)?, &EmitOptions::default())
                .await?;
            let ours = wire.comparable(next(&mut came).await?, Whose::Ours);
            let mut theirs = wire.comparable(sample.frame.clone(), Whose::Original);
            theirs.body["id"] = json!(sent.id);
            theirs.body["timestamp"] = json!(sent.timestamp);
            same(&sample.case, &ours, &theirs)?;
        }
    }
    Ok(())
}

/// Each subscriber of the original gets what it asks for and nothing else.
pub async fn subscriptions_of_the_original_narrow_as_there<W: Wire>() -> Result<()> {
    let wire = W::start().await;
    let (bridge, peer) = (wire.bridge(None).await, wire.peer().await);
    let of_event = [("messageType", "customMessage"), ("eventName", "userCreated")];
    let of_sender = [
        ("messageType", "customMessage"),
        ("senderServiceName", "Caller"),
        ("senderServiceVersion", "1"),
        ("eventName", "durableEvent"),
        ("principalId", "principalOne"),
        ("tenantId", "tenantOne"),
    ];
    let by_name = [("eventName", "userCreated")];
    let durable = Subscriber { is_durable: true, ..Subscriber::new("durableSub", &of_sender) };
    let not_shared = Subscriber { is_shared: false, ..Subscriber::new("notShared", &by_name) };
    let mut subscribers = Vec::new();
    for (subscriber, event_name, last) in [
        (Subscriber::new("peerSubscription", &of_event), "userCreated", "last"),
        (durable, "durableEvent", "principalOne"),
        (not_shared, "userCreated", "last"),
    ] {
        let came = peer.listen(Interest::Subscription(subscriber)).await;
        subscribers.push((came, event_name, ["principalOne", "principalOne", last]));
    }
    let emit = async |sender: &str, event_name: &str, principal: &str| {
        let draft = EventDraft::event((sender, "1", "peerCall"), event_name).with_tenant_id("tenantOne");
        let payload = Payload::json(&[sender, event_name, principal])?;
        let draft = draft.with_principal_id(principal).with_payload(payload);
        anyhow::Ok(bridge.emit_message(draft, &EmitOptions::default()).await?)
    };
    // Each one comes twice, and what does not match stands in between.
    for _round in 0..2 {
        for event_name in ["userCreated", "userDeleted", "durableEvent", "durableEvents"] {
            emit("Caller", event_name, "principalOne").await?;
        }
        emit("Called", "durableEvent", "principalOne").await?;
        emit("Caller", "durableEvent", "principalTwo").await?;
    }
    // The last one of all shows that nothing else came before it.
    emit("Caller", "userCreated", "last").await?;
    emit("Caller", "durableEvent", "principalOne").await?;
    for (mut came, event_name, wanted) in subscribers {
        for principal in wanted {
            let payload = &next(&mut came).await?.body["payload"];
            same(event_name, payload, &json!(["Caller", event_name, principal]))?;
        }
    }
    Ok(())
}

/// Who listens to the event gets the response, once.
pub async fn a_response_that_announces_an_event_is_seen_by_its_subscribers<W: Wire>() -> Result<()> {
    let wire = W::start().await;
    let (service, caller, peer) = (wire.bridge(None).await, wire.bridge(None).await, wire.peer().await);
    let command = ServiceAddress::new("Order", "2", "place");
    let options = CommandOptions::default().with_success_event("orderPlaced");
    serve(&*service, command.clone(), options, echo()).await?;
    let mut came =
        peer.listen(Interest::Subscription(Subscriber::new("placed", &[("eventName", "orderPlaced")]))).await;
    // Each next one shows that the one before came once.
    for number in 0..3 {
        let draft = CommandDraft::new(ServiceAddress::client(), command.clone());
        let response = super::invoke(&*caller, draft.with_payload(Payload::json(&number)?)).await?;
        let body = next(&mut came).await?.body;
        same("the id", &body["id"], &json!(response.id))?;
        same("the type", &body["messageType"], &json!("commandSuccessResponse"))?;
        same("the payload", &body["payload"], &json!(number))?;
    }
    Ok(())
}
