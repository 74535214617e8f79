//! A caller of the original calls a service of ours.

use std::sync::Arc;

use purista_conformance::on_command;
use purista_core::{
    CommandHandler, CommandOptions, EventBridge as _, HandledError, HandlerError, StatusCode,
};
use purista_mqtt::MqttBridge;
use serde_json::{Value, json};

use super::{
    peer::{again, answers_of, frame, send, take_out_expiry, take_out_user_properties},
    samples::{CALLER, Call, Frame, SERVICE, call, calls},
};
use crate::{
    client::Client,
    support::{PATIENCE, Place, echo, eventually, serve, serve_with},
};

/// What the service of the original does that gave the sample's answer.
fn handler(call: &Call) -> Arc<dyn CommandHandler> {
    match call.address().service_target.as_str() {
        "place" => echo(),
        "cancel" => on_command(|_| async {
            let refusal = HandledError::new(StatusCode::CONFLICT, "the order was shipped");
            Err(refusal.with_data(&json!({ "shippedAt": "noon" }))?.into())
        }),
        _ => on_command(|_| async { Err(HandlerError::unhandled("the cause is nobody's business")) }),
    }
}

async fn service(place: &Place, call: &Call) -> MqttBridge {
    let bridge = place.instance(SERVICE).await;
    let options = match call.answer().body["eventName"].as_str() {
        Some(event_name) => CommandOptions::default().with_success_event(event_name),
        None => CommandOptions::default(),
    };
    serve_with(&bridge, call.address(), options, handler(call)).await;
    bridge
}

/// An instance of the original that waits for answers.
async fn caller(place: &Place) -> Client {
    let caller = place.client().await;
    caller.subscribe(&answers_of(CALLER)).await;
    caller
}

/// Splits a trace context into trace and span.
fn trace(otp: &Value) -> (String, String) {
    let fields: Value = serde_json::from_str(otp.as_str().unwrap()).unwrap();
    let traceparent = fields["traceparent"].as_str().unwrap();
    let parts: Vec<_> = traceparent.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned())
}

/// Checks what differs with each answer, and takes it out.
fn take_out_what_differs(answer: &mut Frame, command: &Value) {
    let fields = answer.body.as_object_mut().unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_original() {
    for call in calls().into_iter().filter(|call| call.answer.is_some()) {
        let place = Place::stock().await;
        let bridge = service(&place, &call).await;
        let mut caller = caller(&place).await;

        let mut expected = call.answer().clone();
        take_out_what_differs(&mut expected, &call.command.body);
        take_out_expiry(&mut expected);
        take_out_user_properties(&mut expected);
        for number in 1..=3 {
            // Each next call shows that the one before was answered once.
            let command = again(&call.command, number);
            send(&caller, &command).await;
            let mut ours = frame(&caller.next().await);
            for field in ["id", "correlationId"] {
                expected.body[field] = command.body[field].clone();
            }
            expected.properties["correlationData"] = command.body["correlationId"].clone();
            take_out_what_differs(&mut ours, &command.body);
            let expiry = take_out_expiry(&mut ours);
            // The original has the thousandth part of that, or the time limit in milliseconds as seconds.
            assert_eq!(expiry, 2_592_000, "{}", call.case);
            assert_eq!(ours, expected, "{}", call.case);
        }
        assert_eq!((bridge.stats().executed, bridge.stats().malformed), (3, 0), "{}", call.case);
    }
}

/// The least that a service of the original takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_the_fewest_fields_is_served() {
    let (place, call) = (Place::stock().await, call("success"));
    let bridge = place.bridge().await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = caller(&place).await;
    let mut command = Frame { properties: json!({}), ..call.command };
    let needed = ["messageType", "id", "correlationId", "sender", "receiver", "payload"];
    command.body.as_object_mut().unwrap().retain(|key, _| needed.contains(&key.as_str()));
    send(&caller, &command).await;
    let answer = frame(&caller.next().await);
    assert_eq!(answer.body["correlationId"], command.body["correlationId"]);
    assert_eq!(answer.body["payload"], command.body["payload"]["payload"]);
    assert_eq!(answer.body["otp"], "{}");
    // What the caller did not send beside its command is not sent back.
    assert_eq!(answer.properties.get("correlationData"), None);
}

/// Data beside a command is the caller's: it finds its call by that, whatever it is.
#[tokio::test(flavor = "multi_thread")]
async fn correlation_data_comes_back_as_it_was() {
    let (place, call) = (Place::stock().await, call("success"));
    let bridge = place.bridge().await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = caller(&place).await;
    let mut command = call.command;
    command.properties["correlationData"] = json!("of the caller");
    send(&caller, &command).await;
    let answer = frame(&caller.next().await);
    assert_eq!(answer.properties["correlationData"], "of the caller");
    assert_eq!(answer.body["correlationId"], command.body["correlationId"]);
}

/// What nobody can answer harms nobody, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_none_are_passed_over() {
    let (place, call) = (Place::stock().await, call("success"));
    let bridge = place.bridge().await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = caller(&place).await;
    for missing in ["messageType", "id", "correlationId", "sender", "receiver"] {
        let mut command = again(&call.command, 1);
        command.body.as_object_mut().unwrap().remove(missing);
        send(&caller, &command).await;
    }
    for body in ["", "{", "null", "\u{feff}{}"] {
        caller.publish(&call.command.topic, body, Default::default()).await;
    }
    send(&caller, &again(&call.command, 2)).await;
    let last = json!(format!("{:032x}", 2));
    while frame(&caller.next().await).body["id"] != last {}
    eventually("nothing is in hand", || bridge.stats().in_hand == 0).await;
    assert!(bridge.stats().malformed >= 4, "{:?}", bridge.stats());
    let report = bridge.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report:?}");
}
