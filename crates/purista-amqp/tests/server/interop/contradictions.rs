//! Headers that lead a message where its body does not belong.

use purista_core::{EventBridge as _, Filter};
use purista_integration_tests::interop::{Caller, Wire as _, again};
use serde_json::{Value, json};

use super::wire::Amqp;
use crate::support::{echo, serve, started, transient, watch};

#[tokio::test(flavor = "multi_thread")]
async fn events_whose_headers_contradict_them_are_refused_and_counted() -> anyhow::Result<()> {
    let wire = Amqp::start().await;
    let (bridge, peer) = (started(wire.place.typescript()).await, wire.peer().await);
    let sample = Amqp::event("ids")?.frame;
    let (seen, _) = watch(&bridge, "all", Filter::any(), transient()).await?;
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
        let mut other = sample.clone();
        other.outside["properties"]["headers"][name] = json!("another");
        peer.send(&other).await;
    }
    let mut odd = sample.clone();
    odd.outside["properties"]["headers"]["unknown"] = json!("is nobody's business");
    odd.body["sennder"] = odd.body["sender"].clone();
    peer.send(&odd).await;
    seen.at_least(1).await?;
    assert_eq!((seen.count(), bridge.stats().malformed), (1, names.len() as u64));
    let came: Value = serde_json::from_slice(&seen.messages()[0].encode())?;
    assert_eq!(came, sample.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_whose_headers_contradict_them_are_not_executed() -> anyhow::Result<()> {
    let (wire, call) = (Amqp::start().await, Amqp::call("success")?);
    let bridge = started(wire.place.typescript()).await;
    serve(&bridge, call.address()?, echo()).await;
    let mut caller = Caller::start(&wire).await?;
    let change = |number: usize, part: &str| {
        let mut command = again::<Amqp>(&call.command, number);
        command.body["receiver"][part] = json!("another");
        command
    };
    for (number, part) in ["serviceName", "serviceVersion", "serviceTarget"].into_iter().enumerate() {
        caller.peer().send(&change(number, part)).await;
    }
    let mut forged = again::<Amqp>(&call.command, 4);
    forged.outside["properties"]["headers"]["senderServiceName"] = json!("another");
    caller.peer().send(&forged).await;

    let mut sound = again::<Amqp>(&call.command, 5);
    sound.body["sennder"] = sound.body["sender"].clone();
    caller.peer().send(&sound).await;
    // Whoever sent the others hears that they are refused, in any order.
    let mut refused = 0;
    for _ in 0..5 {
        let answer = caller.answer().await?;
        if answer.body["id"] == sound.body["id"] {
            assert_eq!(answer.body["messageType"], "commandSuccessResponse", "{}", answer.body);
            assert_eq!(answer.body.get("sennder"), None);
        } else {
            assert_eq!(answer.body["payload"]["status"], 400, "{}", answer.body);
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    assert_eq!((bridge.stats().executed, bridge.stats().malformed), (1, 4));
    Ok(())
}
