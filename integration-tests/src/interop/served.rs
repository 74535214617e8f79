//! A caller of the original calls a service of ours.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use purista_conformance::on_command;
use purista_core::{CommandHandler, CommandOptions, EventBridge, HandledError, HandlerError, StatusCode};
use serde_json::{Value, json};

use super::{
    frame::{Call, Frame, take},
    peer::{Caller, again},
    scene::{echo, eventually, is_id, same, serve},
    wire::{Whose, Wire},
};

/// What a caller of the original has to say.
const NEEDED: [&str; 6] = ["messageType", "id", "correlationId", "sender", "receiver", "payload"];

/// What the service of the original does that gave this answer.
fn handler(answer: &Value) -> Result<Arc<dyn CommandHandler>> {
    if answer["messageType"] == "commandSuccessResponse" {
        return Ok(echo());
    }
    if answer["isHandledError"] == false {
        let cause = "the cause is nobody's business";
        return Ok(on_command(move |_| async move { Err(HandlerError::unhandled(cause)) }));
    }
    let payload = &answer["payload"];
    let status = payload["status"].as_u64().context("no status")?;
    let message = payload["message"].as_str().context("no message")?;
    let refusal = HandledError::new(StatusCode::new(status.try_into()?), message);
    let refusal = refusal.with_data(&payload["data"])?;
    Ok(on_command(move |_| {
        let refusal = refusal.clone();
        async move { Err(refusal.into()) }
    }))
}

/// Starts the instance of ours that stands for the one of the sample, and serves its command.
pub async fn serve_as_in<W: Wire>(wire: &W, call: &Call) -> Result<Arc<dyn EventBridge>> {
    let answer = call.answer()?;
    let bridge = wire.bridge(Some(answer.instance_id())).await;
    let options = match answer.body["eventName"].as_str() {
        Some(event_name) => CommandOptions::default().with_success_event(event_name),
        None => CommandOptions::default(),
    };
    serve(&*bridge, call.address()?, options, handler(&answer.body)?).await?;
    Ok(bridge)
}

/// A place, a command of a sample, a bridge that serves it, and a caller of the original.
async fn echo_and_caller<W: Wire>(case: &str) -> Result<(W, Call, Arc<dyn EventBridge>, Caller)> {
    let (wire, call) = (W::start().await, W::call(case)?);
    let bridge = wire.bridge(None).await;
    serve(&*bridge, call.address()?, CommandOptions::default(), echo()).await?;
    let caller = Caller::start(&wire).await?;
    Ok((wire, call, bridge, caller))
}

/// Splits a trace context into trace and span.
fn trace(otp: &Value) -> Result<(String, String)> {
    let fields: Value = serde_json::from_str(otp.as_str().context("no trace context")?)?;
    let traceparent = fields["traceparent"].as_str().context("no traceparent")?;
    let parts: Vec<_> = traceparent.split('-').collect();
    let [_version, trace, span, _flags] = parts[..] else { anyhow::bail!("{traceparent}") };
    Ok((trace.to_owned(), span.to_owned()))
}

/// Checks what differs with each answer, and takes it out.
fn take_out_what_differs(answer: &mut Frame, command: &Value) -> Result<()> {
    ensure!(take(&mut answer.body, "timestamp")?.is_u64(), "no time");
    let trace_id = take(&mut answer.body, "traceId")?;
    match command.get("traceId") {
        Some(given) => same("the trace", &trace_id, given)?,
        None => is_id(&trace_id)?,
    }
    if let Ok(known) = take(&mut answer.body["payload"], "traceId") {
        same("the trace of the error", &known, &trace_id)?;
    }
    let (asked, answered) = (trace(&command["otp"])?, trace(&take(&mut answer.body, "otp")?)?);
    same("the trace", &answered.0, &asked.0)?;
    ensure!(answered.1 != asked.1, "the span of the command");
    Ok(())
}

pub async fn answers_are_those_of_the_original<W: Wire>() -> Result<()> {
    for call in W::calls()?.into_iter().filter(|call| call.answer.is_some()) {
        let wire = W::start().await;
        let bridge = serve_as_in(&wire, &call).await?;
        let mut caller = Caller::start(&wire).await?;

        let mut expected = wire.comparable(call.answer()?.clone(), Whose::Original);
        take_out_what_differs(&mut expected, &call.command.body)?;
        for number in 1..=3 {
            // Each next call shows that the one before was answered once.
            let command = again::<W>(&call.command, number);
            for field in ["id", "correlationId"] {
                expected.body[field] = command.body[field].clone();
            }
            let mut ours = wire.comparable(caller.call(&command).await?, Whose::Ours);
            take_out_what_differs(&mut ours, &command.body)?;
            same(&call.case, &ours, &expected)?;
        }
        same(&call.case, &(bridge.stats().executed, bridge.stats().malformed), &(3, 0))?;
    }
    Ok(())
}

pub async fn a_command_that_announces_an_event_is_served<W: Wire>() -> Result<()> {
    let (_wire, call, _bridge, mut caller) = echo_and_caller::<W>("command-event").await?;
    let answer = caller.call(&call.command).await?;
    same("the payload", &answer.body["payload"], &call.command.body["payload"]["payload"])?;
    same("the receiver", &answer.body["receiver"]["instanceId"], &json!(call.command.instance_id()))
}

/// The least that a service of the original takes.
pub async fn a_command_with_the_fewest_fields_is_served<W: Wire>() -> Result<()> {
    let (_wire, Call { mut command, .. }, _bridge, mut caller) = echo_and_caller::<W>("success").await?;
    command.keep(&NEEDED);
    W::strip(&mut command);
    let answer = caller.call(&command).await?;
    same("the call", &answer.body["correlationId"], &command.body["correlationId"])?;
    same("the payload", &answer.body["payload"], &command.body["payload"]["payload"])?;
    same("the trace context", &answer.body["otp"], &json!("{}"))
}

/// What nobody can answer harms nobody, and the service goes on.
pub async fn commands_that_are_none_are_passed_over<W: Wire>() -> Result<()> {
    let (_wire, call, bridge, mut caller) = echo_and_caller::<W>("success").await?;
    for missing in NEEDED.iter().filter(|field| **field != "payload") {
        let mut command = again::<W>(&call.command, 1);
        take(&mut command.body, missing)?;
        caller.peer().send(&command).await;
    }
    for body in ["", "{", "null", "\u{feff}{}"] {
        let outside = again::<W>(&call.command, 1).outside;
        caller.peer().send_body(&outside, Bytes::from_static(body.as_bytes())).await;
    }
    let last = again::<W>(&call.command, 2);
    caller.peer().send(&last).await;
    while caller.answer().await?.body["id"] != last.body["id"] {}
    eventually("nothing is in hand", || bridge.stats().in_hand == 0).await?;
    ensure!(bridge.stats().malformed >= 4, "{:?}", bridge.stats());
    let report = bridge.shutdown(Duration::from_secs(10)).await;
    ensure!(report.is_clean(), "{report:?}");
    Ok(())
}
