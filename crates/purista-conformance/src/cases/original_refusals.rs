//! What ours cannot execute, and tells the TypeScript original.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridgeExt as _, Filter, InvokeError, MAX_DEPTH, MessageType,
    SubscriptionOptions,
};
use serde_json::{Value, json};

use super::original_calls::{call_with, original, send};
use crate::{
    case::{Case, Outcome, case},
    original::Part,
    probe::{Collector, echo, eventually},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("WIR-8", what_cannot_be_read_is_answered, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-10", streams_are_known, Capability::WireCompatible, else "the wire is our own"),
];

/// JSON that nests deeper than we take.
fn too_deep() -> String {
    format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1))
}

/// Makes commands that cannot be executed, as bytes.
fn unreadable(command: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut command = command.clone();
        change(&mut command);
        command.to_string().into_bytes()
    };
    let whole = command.to_string();
    let with_payload = |payload: &[u8]| {
        let rest = changed(&|command| drop(command.as_object_mut().map(|fields| fields.remove("payload"))));
        [&rest[..rest.len() - 1], &b",\"payload\":"[..], payload, b"}"].concat()
    };
    vec![
        ("a payload that nests too deep", with_payload(format!("{{\"payload\":{}}}", too_deep()).as_bytes())),
        (
            "a parameter that nests too deep",
            with_payload(format!("{{\"parameter\":{}}}", too_deep()).as_bytes()),
        ),
        ("a payload that is no input", changed(&|command| command["payload"] = json!([1]))),
        ("a payload that is no UTF-8", with_payload(b"{\"payload\":\"\xff\xfe\"}")),
        ("a time before all time", changed(&|command| command["timestamp"] = json!(-1))),
        ("a tenant that is a number", changed(&|command| command["principalId"] = json!(7))),
        ("a tenant beyond the limits", changed(&|command| command["principalId"] = json!("p".repeat(300)))),
        ("a field that comes twice", format!("{{\"otp\":\"{{}}\",{}", &whole[1..]).into_bytes()),
        ("an end too early", whole.as_bytes()[..whole.len() - 2].to_vec()),
    ]
}

async fn what_cannot_be_read_is_answered(stage: Stage) -> Outcome {
    let (service, caller) = (stage.bridge().await?, stage.bridge().await?);
    stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
    stage.begin().await?;
    let part =
        Part::new(stage.unique("original").to_string()).answering(stage.address("deep"), Some(too_deep()));
    let peer = original(&stage, &part).await?;
    let draft = || part.command(&stage.address("caller"), stage.address("echo"), json!("text"));
    let number_of_them = unreadable(&draft()).len();
    for number in 0..number_of_them {
        let command = draft();
        let (what, bytes) = unreadable(&command).swap_remove(number);
        let answer = call_with(&*peer, &part.answers, &command, bytes).await;
        let answer = answer.map_err(|error| error.context(format!("nobody answered {what}")))?;
        let is_refused =
            answer["messageType"] == "commandErrorResponse" && answer["payload"]["status"] == 400;
        ensure!(is_refused, "{what} was answered {answer}");
    }
    let stats = service.stats();
    ensure!(stats.malformed >= number_of_them as u64 && stats.executed == 0, "{stats:?}");
    let good = draft();
    let answer = call_with(&*peer, &part.answers, &good, good.to_string()).await?;
    ensure!(answer["payload"] == "text", "then, {answer}");
    the_caller_hears_of_an_answer_that_is_none(&stage, &*caller).await
}

async fn the_caller_hears_of_an_answer_that_is_none(
    stage: &Stage,
    caller: &dyn purista_core::EventBridge,
) -> Result<()> {
    let began = Instant::now();
    let outcome: Result<Value, InvokeError> = caller.invoke(stage.address("deep"), &1).await;
    let error = outcome.err().map(|error| (error.bridge_kind(), began.elapsed()));
    let is_told =
        matches!(error, Some((Some(ErrorKind::InvalidMessage), after)) if after < Duration::from_secs(8));
    ensure!(is_told, "an answer that nests too deep became {error:?}");
    Ok(())
}

async fn streams_are_known(stage: Stage) -> Outcome {
    let (service, seen) = (stage.bridge().await?, Collector::new());
    stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
    let watching = stage.bridge().await?;
    let happened = stage.unique("streamed");
    let frames = Filter::event(&happened).with_message_type(MessageType::Stream);
    stage.subscribe(&*watching, "frames", frames, SubscriptionOptions::default(), seen.handler()).await?;
    stage.begin().await?;
    let part = Part::new(stage.unique("original").to_string());
    let peer = original(&stage, &part).await?;
    let frame = |payload: Value| {
        let mut frame = part.command(&stage.address("caller"), stage.address("echo"), Value::Null);
        (frame["messageType"], frame["payload"]) = (json!("stream"), payload);
        frame
    };
    let open = frame(json!({ "frameType": "open", "payload": 1, "parameter": {} }));
    send(&*peer, &open).await?;
    let answer = part.answers.answer_to(&open).await?;
    let refusal = &answer["payload"];
    let is_refused = answer["messageType"] == "stream"
        && refusal["frameType"] == "error"
        && refusal["error"]["status"] == 501
        && answer["receiver"]["instanceId"] == part.instance_id.as_str();
    ensure!(is_refused, "the stream got {answer}");

    if stage.deployment().events_cross_bridges() {
        // Somebody else's stream, which this one announces as an event.
        let mut chunk = frame(json!({ "frameType": "chunk", "sequence": 1, "chunk": "text" }));
        chunk["receiver"] = json!({
            "serviceName": "Elsewhere", "serviceVersion": "1", "serviceTarget": "reader", "instanceId": "reader",
        });
        chunk["eventName"] = json!(happened);
        send(&*peer, &chunk).await?;
        seen.at_least(1).await?;
        let message = seen.messages().remove(0);
        ensure!(message.message_type() == MessageType::Stream, "{message:?}");
        ensure!(
            message.payload().is_some_and(|payload| payload.as_str().contains("\"text\"")),
            "{message:?}"
        );
    }
    eventually("the frame is counted apart", || async { Ok(service.stats().stream_frames == 1) }).await?;
    let malformed = service.stats().malformed + watching.stats().malformed;
    ensure!(malformed == 0, "{malformed} frames count as malformed");
    Ok(())
}
