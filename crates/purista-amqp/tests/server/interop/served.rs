//! A caller of the original calls a service of ours.

use std::{sync::Arc, time::Duration};

use purista_amqp::AmqpBridge;
use purista_conformance::on_command;
use purista_core::{CommandHandler, CommandOptions, EventBridge as _, HandledError, HandlerError};
use serde_json::{Value, json};

use super::{
    peer::{Peer, again, frame, take_out_trace},
    samples::{CALLER, Call, Frame, SERVICE, call, calls},
};
use crate::support::{Place, echo, eventually, serve, serve_with, started};

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

async fn service(place: &Place, call: &Call) -> AmqpBridge {
    let bridge = started(place.typescript().instance_id(SERVICE)).await;
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
fn take_out_what_differs(answer: &mut Frame, command: &Value) {
    let fields = answer.body.as_object_mut().unwrap();
    let timestamp = fields.remove("timestamp").unwrap();
    assert!(timestamp.is_u64());
    assert_eq!(answer.properties.as_object_mut().unwrap().remove("timestamp"), Some(timestamp));
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
        let place = Place::shared().await;
        let bridge = service(&place, &call).await;
        let mut caller = Peer::new(&place).await;

        let mut expected = call.answer().clone();
        take_out_what_differs(&mut expected, &call.command.body);
        assert!(take_out_trace(&mut expected.properties).is_some());
        let misspelt = expected.body.as_object_mut().unwrap().remove("sennder");
        assert_eq!(misspelt.as_ref(), Some(&expected.body["sender"]));
        for number in 1..=3 {
            // Each next call shows that the one before was answered once.
            let command = again(&call.command, number);
            caller.send(&command).await;
            let mut ours = frame(&caller.answer().await);
            for (field, property) in [("id", "messageId"), ("correlationId", "correlationId")] {
                expected.body[field] = command.body[field].clone();
                expected.properties[property] = command.body[field].clone();
            }
            expected.properties["headers"]["replyTo"] = json!(caller.reply_queue);
            take_out_what_differs(&mut ours, &command.body);
            assert_eq!(ours.properties, expected.properties, "{}", call.case);
            assert_eq!(ours.body, expected.body, "{}", call.case);
        }
        assert_eq!((bridge.stats().executed, bridge.stats().malformed), (3, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_announces_an_event_is_served() {
    let (place, call) = (Place::shared().await, call("command-event"));
    let bridge = started(place.typescript()).await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Peer::new(&place).await;
    caller.send(&call.command).await;
    let answer = frame(&caller.answer().await).body;
    assert_eq!(answer["payload"], call.command.body["payload"]["payload"]);
    assert_eq!(answer["receiver"]["instanceId"], CALLER);
}

/// The least that a service of the original takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_the_fewest_fields_is_served() {
    let (place, call) = (Place::shared().await, call("success"));
    let bridge = started(place.typescript()).await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Peer::new(&place).await;
    let some = |from: &Value, keys: &[&str]| {
        let fields = keys.iter().map(|key| ((*key).to_owned(), from[*key].clone()));
        Value::Object(fields.collect())
    };
    let sample = &call.command;
    let body = ["messageType", "id", "correlationId", "sender", "receiver", "payload"];
    let headers = ["messageType", "receiverServiceName", "receiverServiceVersion", "receiverServiceTarget"];
    let mut command = Frame {
        properties: some(&sample.properties, &["contentType", "contentEncoding", "replyTo"]),
        body: some(&sample.body, &body),
    };
    command.properties["headers"] = some(&sample.properties["headers"], &headers);
    caller.send(&command).await;
    let answer = frame(&caller.answer().await).body;
    assert_eq!(answer["correlationId"], command.body["correlationId"]);
    assert_eq!(answer["payload"], command.body["payload"]["payload"]);
    assert_eq!(answer["otp"], "{}");
}

/// Such a caller does not listen for its answer, and the service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_place_for_its_answer_harms_nobody() {
    let (place, call) = (Place::shared().await, call("success"));
    let bridge = started(place.typescript()).await;
    serve(&bridge, call.address(), echo()).await;
    let mut caller = Peer::new(&place).await;
    let mut command = again(&call.command, 1);
    command.properties.as_object_mut().unwrap().remove("replyTo");
    caller.send(&command).await;
    caller.send(&again(&call.command, 2)).await;
    let answer = frame(&caller.answer().await);
    assert_eq!(answer.body["id"], format!("{:032x}", 2));
    eventually("both are executed", async || bridge.stats().executed == 2).await;
    let report = bridge.shutdown(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report:?}");
}
