//! A caller of ours calls a service of the original.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use purista_core::{ErrorKind, InvokeError, Message, StatusCode};
use serde_json::{Value, json};

use super::{
    frame::{Call, Frame, take},
    peer::{Service, answer_as_in},
    scene::{PATIENCE, eventually, invoke, invoke_within, is_id, same},
    wire::{Whose, Wire},
};

/// Checks that a caller got what the sample says; returns what kind of answer that is.
fn is_the_answer(call: &Call, outcome: Result<Arc<Message>, InvokeError>) -> Result<&'static str> {
    let answer = &call.answer()?.body;
    let expected = &answer["payload"];
    match outcome {
        Err(InvokeError::Handled(error)) if answer["isHandledError"] == true => {
            same("the status", &json!(error.status().as_u16()), &expected["status"])?;
            same("the message", &json!(error.message()), &expected["message"])?;
            let data: Value = error.data().context("no data")?.deserialize()?;
            same("the data", &data, &expected["data"])?;
            Ok("handled")
        }
        Err(InvokeError::Unhandled(status)) if answer["isHandledError"] == false => {
            same("the status", &status, &StatusCode::INTERNAL_SERVER_ERROR)?;
            same("the status of the original", &expected["status"], &json!(status.as_u16()))?;
            Ok("unhandled")
        }
        Ok(response) if answer["messageType"] == "commandSuccessResponse" => {
            let payload: Value = response.payload().context("no payload")?.deserialize()?;
            same("the payload", &payload, expected)?;
            let event_name = response.event_name.as_ref().map(ToString::to_string);
            same("the event", &event_name.as_deref(), &answer["eventName"].as_str())?;
            Ok("success")
        }
        outcome => bail!("{outcome:?}"),
    }
}

/// With all that the original sends beside its answers, and with what it cannot do without.
pub async fn answers_of_the_original_reach_the_caller<W: Wire>() -> Result<()> {
    let mut kinds = BTreeSet::new();
    for call in W::calls()?.into_iter().filter(|call| call.answer.is_some()) {
        for is_stripped in [false, true] {
            let (wire, sample) = (W::start().await, call.answer()?.clone());
            let answers = move |command: &Frame| {
                let mut answer = answer_as_in::<W>(&sample, command);
                if is_stripped {
                    W::strip(&mut answer);
                }
                Some(answer)
            };
            let _service = Service::start(&wire, &call.address()?, answers).await;
            let bridge = wire.bridge(None).await;
            // The original executes it, whatever instance it is meant for, but only the one of the sample is asked for.
            let outcome = invoke(&*bridge, call.draft()?).await;
            kinds.insert(is_the_answer(&call, outcome).with_context(|| call.case.clone())?);
            let stats = bridge.stats();
            let counts = (stats.answered, stats.malformed, stats.forged_responses);
            same(&call.case, &counts, &(1, 0, 0))?;
        }
    }
    same("the samples", &kinds, &BTreeSet::from(["handled", "success", "unhandled"]))
}

/// What the service gets: the route and all else that the original's own caller gives it.
pub async fn commands_are_those_of_the_original<W: Wire>() -> Result<()> {
    for call in W::calls()? {
        let wire = W::start().await;
        let own = call.answer.clone().filter(|answer| answer.body["messageType"] == "commandSuccessResponse");
        let answer = if let Some(own) = own {
            own
        } else {
            let mut answer = W::call("success")?.answer()?.clone();
            answer.body["sender"]["serviceTarget"] = json!(call.address()?.service_target.as_str());
            answer
        };
        let service = Service::start_as_in(&wire, &call.address()?, answer).await;
        let bridge = wire.bridge(Some(call.command.instance_id())).await;
        let outcome = invoke(&*bridge, call.draft()?).await;
        outcome.map_err(|error| anyhow::anyhow!("{}: {error:?}", call.case))?;

        let [command] = &service.came()[..] else { bail!("{}: not one command", call.case) };
        let mut ours = wire.comparable(command.clone(), Whose::Ours);
        let mut theirs = wire.comparable(call.command, Whose::Original);
        for frame in [&mut ours, &mut theirs] {
            ensure!(take(&mut frame.body, "timestamp")?.is_u64(), "{}: no time", call.case);
            is_id(&take(&mut frame.body, "id")?)?;
            is_id(&take(&mut frame.body, "correlationId")?)?;
        }
        same(&call.case, &ours, &theirs)?;
    }
    Ok(())
}

pub async fn a_command_that_no_peer_serves_is_known_at_once<W: Wire>() -> Result<()> {
    let (wire, call) = (W::start().await, W::call("unknown-command")?);
    let _service = Service::start(&wire, &W::call("success")?.address()?, |_| None).await;
    let bridge = wire.bridge(None).await;
    let error = invoke(&*bridge, call.draft()?).await.err().context("it was answered")?;
    same(&format!("{error:?}"), &error.bridge_kind(), &Some(ErrorKind::NoHandler))
}

/// The call of a sample whose service answers with no more than these fields, and the ones to change.
async fn answered_with<W: Wire>(
    case: &str,
    fields: &'static [&'static str],
    more: Value,
    limit: Duration,
) -> Result<(Result<Arc<Message>, InvokeError>, u64)> {
    let (wire, call) = (W::start().await, W::call(case)?);
    let sample = call.answer()?.clone();
    let answers = move |command: &Frame| {
        let mut answer = answer_as_in::<W>(&sample, command);
        W::strip(&mut answer);
        answer.keep(fields);
        for (field, value) in more.as_object().into_iter().flatten() {
            answer.body[field] = value.clone();
        }
        Some(answer)
    };
    let _service = Service::start(&wire, &call.address()?, answers).await;
    let bridge = wire.bridge(None).await;
    let outcome = invoke_within(&*bridge, call.draft()?, limit).await;
    if outcome.as_ref().is_err_and(|error| error.bridge_kind().is_some()) {
        eventually("it is counted", || bridge.stats().malformed > 0).await?;
    }
    Ok((outcome, bridge.stats().malformed))
}

pub async fn an_answer_needs_no_more_than_its_call_and_its_sender<W: Wire>() -> Result<()> {
    const NEEDED: &[&str] = &["messageType", "correlationId", "sender", "receiver"];
    // The original leaves out a result that is undefined.
    for more in [json!({ "payload": { "a": 1 } }), json!({ "payload": null }), json!({})] {
        let response = answered_with::<W>("success", NEEDED, more.clone(), PATIENCE).await?.0;
        let response = response.map_err(|error| anyhow::anyhow!("{more}: {error:?}"))?;
        let payload = response.payload().map(|payload| payload.deserialize::<Value>()).transpose()?;
        same("the payload", &payload.as_ref(), &more.get("payload"))?;
    }
    let payload = json!({ "status": 404, "message": "no such user" });
    let more = json!({ "isHandledError": true, "payload": payload });
    let handled = answered_with::<W>("handled-error", NEEDED, more, PATIENCE).await?.0;
    let Err(InvokeError::Handled(error)) = handled else { bail!("{handled:?}") };
    same("the error", &(error.status(), error.message()), &(StatusCode::NOT_FOUND, "no such user"))?;
    ensure!(error.data().is_none(), "{error:?}");
    let more = json!({ "payload": payload });
    let unhandled = answered_with::<W>("unhandled-error", NEEDED, more, PATIENCE).await?.0;
    let is_it = matches!(unhandled, Err(InvokeError::Unhandled(StatusCode::NOT_FOUND)));
    ensure!(is_it, "{unhandled:?}");
    Ok(())
}

/// The original takes an answer that does not say who sent it. We do not: anyone could have. One that only lacks something
/// else ends its call, as no other will come.
pub async fn an_answer_without_a_sender_is_none<W: Wire>() -> Result<()> {
    const NO_SENDER: &[&str] = &["messageType", "correlationId", "receiver", "payload"];
    const NO_RECEIVER: &[&str] = &["messageType", "correlationId", "sender", "payload"];
    const ENDS: Duration = Duration::from_secs(1);
    for (fields, kind, limit) in
        [(NO_SENDER, ErrorKind::Timeout, ENDS), (NO_RECEIVER, ErrorKind::InvalidMessage, PATIENCE)]
    {
        let (outcome, malformed) = answered_with::<W>("success", fields, json!({}), limit).await?;
        let error = outcome.err().with_context(|| format!("{fields:?} is taken"))?;
        same(&format!("{fields:?}"), &(error.bridge_kind(), malformed), &(Some(kind), 1))?;
    }
    Ok(())
}
