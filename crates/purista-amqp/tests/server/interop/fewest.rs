//! Messages without the properties that would lead them, or their answer, to somebody.

use std::time::Duration;

use purista_core::{EventBridge as _, Filter};
use purista_integration_tests::interop::{Caller, Wire, again};
use serde_json::json;

use super::wire::Amqp;
use crate::support::{echo, eventually, serve, started, transient, watch};

/// Nothing but the subscriber of everything is bound to what it has.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_headers_comes_to_who_wants_everything() -> anyhow::Result<()> {
    let wire = Amqp::start().await;
    let (bridge, peer) = (started(wire.place.typescript()).await, wire.peer().await);
    let (by_name, _) = watch(&bridge, "byName", Filter::event("userCreated"), transient()).await?;
    let (all, _) = watch(&bridge, "all", Filter::any(), transient()).await?;
    let sample = Amqp::event("plain")?.frame;
    let mut unheaded = sample.clone();
    Amqp::strip(&mut unheaded);
    unheaded.outside["properties"].as_object_mut().unwrap().remove("headers");
    peer.send(&unheaded).await;
    peer.send(&sample).await;
    all.at_least(2).await?;
    by_name.at_least(1).await?;
    assert_eq!((all.count(), by_name.count(), bridge.stats().malformed), (2, 1, 0));
    Ok(())
}

/// Such a caller does not listen for its answer, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_place_for_its_answer_harms_nobody() -> anyhow::Result<()> {
    let (wire, call) = (Amqp::start().await, Amqp::call("success")?);
    let bridge = started(wire.place.typescript()).await;
    serve(&bridge, call.address()?, echo()).await;
    let mut caller = Caller::start(&wire).await?;
    let mut command = again::<Amqp>(&call.command, 1);
    command.outside["properties"].as_object_mut().unwrap().remove("replyTo");
    caller.peer().send(&command).await;
    let answer = caller.call(&again::<Amqp>(&call.command, 2)).await?;
    assert_eq!(answer.body["id"], json!(format!("{:032x}", 2)));
    eventually("both are executed", async || bridge.stats().executed == 2).await;
    let report = bridge.shutdown(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report:?}");
    Ok(())
}
