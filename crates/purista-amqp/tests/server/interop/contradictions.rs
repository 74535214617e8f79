//! Headers that lead a message where its body does not belong.

use purista_core::{EventBridge as _, Filter};
use serde_json::{Value, json};

use super::{
    peer::{Peer, again, frame},
    samples::{call, event},
};
use crate::support::{Place, echo, serve, started, transient, watch};

#[tokio::test(flavor = "multi_thread")]
async fn events_whose_headers_contradict_them_are_refused_and_counted() {
    let place = Place::shared().await;
    let (bridge, peer, sample) = (started(place.typescript()).await, Peer::new(&place).await, event("ids"));
    let (seen, _) = watch(&bridge, "all", Filter::any(), transient()).await.unwrap();
    let names = [
        "messageType",
        "eventName",
        "principalId",
        "tenantId",
        "senderServiceName",
        "senderServiceVersion",
        "senderServiceTarget",
        "senderInstanceId",
        // The body has no receiver.
        "receiverServiceName",
        "receiverServiceInstanceId",
    ];
    for name in names {
        let mut other = sample.frame.clone();
        other.properties["headers"][name] = json!("another");
        peer.send(&other).await;
    }
    let mut odd = sample.frame.clone();
    odd.properties["headers"]["unknown"] = json!("is nobody's business");
    odd.body["sennder"] = odd.body["sender"].clone();
    peer.send(&odd).await;
    seen.at_least(1).await.unwrap();
    assert_eq!((seen.count(), bridge.stats().malformed), (1, names.len() as u64));
    let came: Value = serde_json::from_slice(&seen.messages()[0].encode()).unwrap();
    assert_eq!(came, sample.frame.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_whose_headers_contradict_them_are_not_executed() {
    let (place, call) = (Place::shared().await, call("success"));
    let bridge = started(place.typescript()).await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Peer::new(&place).await;
    let change = |number: usize, part: &str| {
        let mut command = again(&call.command, number);
        command.body["receiver"][part] = json!("another");
        command
    };
    for (number, part) in ["serviceName", "serviceVersion", "serviceTarget"].into_iter().enumerate() {
        caller.send(&change(number, part)).await;
    }
    let mut forged = again(&call.command, 4);
    forged.properties["headers"]["senderServiceName"] = json!("another");
    caller.send(&forged).await;

    let mut sound = again(&call.command, 5);
    sound.body["sennder"] = sound.body["sender"].clone();
    caller.send(&sound).await;
    // Whoever sent the others hears that they are refused.
    for _ in 0..4 {
        let refusal = frame(&caller.answer().await);
        assert_eq!(refusal.body["payload"]["status"], 400, "{}", refusal.body);
    }
    let answer = frame(&caller.answer().await);
    assert_eq!(answer.body["id"], sound.body["id"]);
    assert_eq!(answer.body.get("sennder"), None);
    assert_eq!((bridge.stats().executed, bridge.stats().malformed), (1, 4));
}
