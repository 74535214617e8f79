//! A caller of the original calls a service of ours.

use std::sync::Arc;

use async_nats::Subscriber;
use purista_conformance::on_command;
use purista_core::{CommandHandler, CommandOptions, EventBridge as _, HandledError, HandlerError};
use purista_nats::NatsBridge;
use serde_json::{Value, json};

use super::{
    peer::{Caller, again},
    samples::{CALLER, Call, SERVICE, call, calls},
};
use crate::support::{Place, body, echo, next, serve, serve_with, settled, started};

/// What the service of the original does that gave the sample's answer.
fn handler(call: &Call) -> Arc<dyn CommandHandler> {
    match call.address().service_target.as_str() {
        "echo" => echo(),
        "fail" => on_command(|_| async {
            let refusal = HandledError::bad_request("e-mail is missing");
            Err(refusal.with_data(&json!({ "field": "email" }))?.into())
        }),
        _ => on_command(|_| async { Err(HandlerError::unhandled("the cause is nobody's business")) }),
    }
}

async fn service(place: &Place, call: &Call) -> NatsBridge {
    let bridge = started(place.builder().instance_id(SERVICE)).await;
    let options = match call.answer().body["eventName"].as_str() {
        Some(event_name) => CommandOptions::default().with_success_event(event_name),
        None => CommandOptions::default(),
    };
    serve_with(&bridge, call.address(), options, handler(call)).await;
    bridge
}

/// Splits a trace context into trace and span.
fn trace(otp: &Value) -> (String, String) {
    let fields: Value = serde_json::from_str(otp.as_str().unwrap()).unwrap();
    let traceparent = fields["traceparent"].as_str().unwrap();
    let parts: Vec<_> = traceparent.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

/// Checks what differs with each answer, and takes it out.
fn take_out_what_differs(answer: &mut Value, command: &Value) {
    let fields = answer.as_object_mut().unwrap();
    assert!(fields.remove("timestamp").unwrap().is_u64());
    let trace_id = fields.remove("traceId").unwrap();
    match command.get("traceId") {
        Some(given) => assert_eq!(trace_id, *given),
        None => assert_eq!(trace_id.as_str().unwrap().len(), 32, "{trace_id}"),
    }
    if let Some(known) = fields["payload"].as_object_mut().and_then(|error| error.remove("traceId")) {
        assert_eq!(known, trace_id);
    }
    let (asked, answered) = (trace(&command["otp"]), trace(&fields.remove("otp").unwrap()));
    assert_eq!(answered.0, asked.0, "another trace");
    assert_ne!(answered.1, asked.1, "the span of the command");
}

/// Returns the regular subject of the original's answer.
fn subject_of_answer(place: &Place, call: &Call) -> String {
    let command: Vec<_> = call.subject.split('.').collect();
    let answer = &call.answer().body;
    let message_type = match answer["messageType"].as_str() {
        Some("commandSuccessResponse") => "command_success_response",
        _ => "command_error_response",
    };
    let event_name = if answer["eventName"].is_null() { "empty" } else { "user_echoed" };
    let instance = "5_e2_f1_c0_a9_b8_d7_e6_f5_a4_b3_c2_d1_e0_f9_a8_b";
    let (scope, caller, service) = (&command[2..4], &command[4..8], &command[10..13]);
    let head = format!("purista.{message_type}.{}.{instance}.{}", scope.join("."), service.join("."));
    place.here(&format!("{head}.{event_name}.{}", caller.join(".")))
}

async fn observer(place: &Place) -> Subscriber {
    let client = place.client().await;
    let observer = client.subscribe(place.here("purista.*.*.*.*.*.*.*.*.*.*.*.*")).await.unwrap();
    settled(&client).await;
    observer
}

/// Returns the next answer on a regular subject.
async fn observed(observer: &mut Subscriber) -> async_nats::Message {
    loop {
        let message = next(observer).await;
        if message.subject.contains("_response.") {
            return message;
        }
    }
}

async fn each_answer_is_that_of_the_original(has_jetstream: bool) {
    for call in calls().into_iter().filter(|call| call.answer.is_some()) {
        let place = Place::shared(has_jetstream).await;
        let bridge = service(&place, &call).await;
        let (mut caller, mut observer) = (Caller::new(&place).await, observer(&place).await);

        let mut expected = call.answer().body.clone();
        take_out_what_differs(&mut expected, &call.command);
        for number in 1..=3 {
            // Each next call shows that the one before was answered once, here and there.
            let command = again(&call.command, number);
            expected["id"] = command["id"].clone();
            expected["correlationId"] = command["correlationId"].clone();
            let inbox = caller.send(place.here(&call.subject), &command).await;
            let answer = caller.answer().await;
            assert_eq!(answer.subject.as_str(), inbox, "{}", call.case);
            let mut ours = body(&answer);
            take_out_what_differs(&mut ours, &command);
            assert_eq!(ours, expected, "{}", call.case);

            let regular = observed(&mut observer).await;
            assert_eq!(regular.subject.as_str(), subject_of_answer(&place, &call));
            assert_eq!(regular.payload, answer.payload, "{}", call.case);
        }
        assert_eq!(bridge.stats().executed, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_original() {
    each_answer_is_that_of_the_original(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_original_without_jetstream() {
    each_answer_is_that_of_the_original(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_announces_an_event_is_served() {
    let (place, call) = (Place::shared(true).await, call("command-event"));
    let bridge = place.bridge().await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Caller::new(&place).await;
    caller.send(place.here(&call.subject), &call.command).await;
    let answer = body(&caller.answer().await);
    assert_eq!(answer["payload"], call.command["payload"]["payload"]);
    assert_eq!(answer["receiver"]["instanceId"], CALLER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_serves_is_known_at_once() {
    let (place, call) = (Place::shared(true).await, call("unknown-command"));
    let bridge = place.bridge().await;
    serve(&bridge, ("User", "1", "echo"), echo()).await;
    let mut caller = Caller::new(&place).await;
    caller.send(place.here(&call.subject), &call.command).await;
    let answer = caller.answer().await;
    assert_eq!(answer.status, Some(async_nats::StatusCode::NO_RESPONDERS));
    assert!(answer.payload.is_empty());
}

/// The least that a service of the original takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_the_fewest_fields_is_served() {
    let (place, call) = (Place::shared(true).await, call("success"));
    let bridge = place.bridge().await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Caller::new(&place).await;
    let needed = ["messageType", "id", "correlationId", "sender", "receiver", "payload"];
    let fields = needed.map(|key| (key.to_owned(), call.command[key].clone()));
    let command = Value::Object(fields.into_iter().collect());
    caller.send(place.here(&call.subject), &command).await;
    let answer = body(&caller.answer().await);
    assert_eq!(answer["correlationId"], command["correlationId"]);
    assert_eq!(answer["payload"], command["payload"]["payload"]);
    assert_eq!(answer["otp"], "{}");
}
