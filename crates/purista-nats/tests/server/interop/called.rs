//! A caller of ours calls a service of the original.

use std::time::Duration;

use purista_core::{CommandDraft, ErrorKind, EventBridge as _, InvokeError, InvokeOptions, StatusCode};
use serde_json::{Value, json};

use super::{
    peer::{Service, answer_as_in},
    samples::{Answer, CALLER, Call, call, calls, listener},
};
use crate::support::{Place, body, invoke, started, within};

/// Where a service of the original listens for this command.
fn listener_of(call: &Call) -> super::samples::Listener {
    listener(&format!("command-{}", call.address().service_target))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_original_reach_the_caller() {
    for call in calls().into_iter().filter(|call| call.answer.is_some()) {
        let place = Place::shared(true).await;
        let sample = call.clone();
        let answers = move |command: &Value| Some(answer_as_in(&sample, command));
        let _service = Service::start(&place, &listener_of(&call), answers).await;
        let bridge = place.bridge().await;

        let outcome = invoke(&bridge, call.draft()).await;
        let expected = &call.answer().body["payload"];
        match (call.case.as_str(), outcome) {
            ("handled-error", Err(InvokeError::Handled(error))) => {
                assert_eq!(error.status(), StatusCode::BAD_REQUEST);
                assert_eq!(error.message(), "e-mail is missing");
                assert_eq!(error.data().unwrap().deserialize::<Value>().unwrap(), expected["data"]);
            }
            ("unhandled-error", Err(InvokeError::Unhandled(status))) => {
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            }
            (_, Ok(response)) => {
                assert_eq!(response.payload().unwrap().deserialize::<Value>().unwrap(), *expected);
                let event_name = response.event_name.as_ref().map(ToString::to_string);
                assert_eq!(event_name.as_deref(), call.answer().body["eventName"].as_str());
            }
            (case, outcome) => panic!("{case}: {outcome:?}"),
        }
        let stats = bridge.stats();
        assert_eq!((stats.answered, stats.malformed, stats.forged_responses), (1, 0, 0), "{}", call.case);
    }
}

/// What the service gets: the subject, and all fields, of the original's own caller.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_those_of_the_original() {
    for call in calls() {
        let place = Place::shared(true).await;
        let mut listener = listener("command-echo");
        listener.pattern = listener.pattern.replace("echo", &call.address().service_target);
        let answers = |command: &Value| Some(minimal(command, &json!({ "payload": 1 })));
        let service = Service::start(&place, &listener, answers).await;
        let bridge = started(place.builder().instance_id(CALLER)).await;
        invoke(&bridge, call.draft()).await.unwrap_or_else(|error| panic!("{}: {error:?}", call.case));

        let [command] = &service.commands()[..] else { panic!("{}: not one command", call.case) };
        assert_eq!(command.subject.as_str(), place.here(&call.subject), "{}", call.case);
        let [ours, theirs] = [body(command), call.command].map(|mut command| {
            let fields = command.as_object_mut().unwrap();
            assert!(fields.remove("timestamp").unwrap().is_u64());
            for key in ["id", "correlationId"] {
                let id = fields.remove(key).unwrap();
                assert_eq!(id.as_str().unwrap().len(), 32, "{key}");
            }
            command
        });
        assert_eq!(ours, theirs, "{}", call.case);
        // It would make the original begin a new trace.
        let headers = command.headers.clone().unwrap_or_default();
        assert!(headers.get("traceparent").is_none(), "{headers:?}");
    }
}

/// An answer with what every answer needs, and these fields.
fn minimal(command: &Value, more: &Value) -> Answer {
    let mut body = json!({
        "messageType": "commandSuccessResponse",
        "correlationId": command["correlationId"],
        "sender": { "instanceId": "p1" },
        "receiver": command["sender"],
    });
    for part in ["serviceName", "serviceVersion", "serviceTarget"] {
        body["sender"][part] = command["receiver"][part].clone();
    }
    if let Some(instance_id) = command["receiver"].get("instanceId") {
        body["sender"]["instanceId"] = instance_id.clone();
    }
    for key in ["tenantId", "principalId"] {
        if let Some(id) = command.get(key) {
            body[key] = id.clone();
        }
    }
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    Answer { headers: Default::default(), body }
}

/// The call whose service answers with the fewest fields and these.
async fn answered_with(more: Value) -> Result<Option<Value>, InvokeError> {
    let (place, call) = (Place::shared(true).await, call("success"));
    let answers = move |command: &Value| Some(minimal(command, &more));
    let _service = Service::start(&place, &listener("command-echo"), answers).await;
    let bridge = place.bridge().await;
    let response = invoke(&bridge, call.draft()).await?;
    Ok(response.payload().map(|payload| payload.deserialize().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_no_more_than_its_call_and_its_sender() {
    assert_eq!(answered_with(json!({ "payload": { "a": 1 } })).await.unwrap(), Some(json!({ "a": 1 })));
    assert_eq!(answered_with(json!({ "payload": null })).await.unwrap(), Some(Value::Null));
    // The original leaves out a result that is undefined.
    assert_eq!(answered_with(json!({})).await.unwrap(), None);

    let failed = |more: Value| async move {
        let mut fields = json!({ "messageType": "commandErrorResponse" });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        answered_with(fields).await.unwrap_err()
    };
    let payload = json!({ "status": 404, "message": "no such user" });
    let handled = failed(json!({ "isHandledError": true, "payload": payload })).await;
    let InvokeError::Handled(error) = handled else { panic!("{handled:?}") };
    assert_eq!((error.status(), error.message()), (StatusCode::NOT_FOUND, "no such user"));
    assert_eq!(error.data(), None);
    let unhandled = failed(json!({ "payload": payload })).await;
    assert!(matches!(unhandled, InvokeError::Unhandled(StatusCode::NOT_FOUND)), "{unhandled:?}");
}

/// The original takes an answer that does not say who sent it. We do not: anyone could have. One that only lacks something
/// else ends its call, as no other will come.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_sender_is_none() {
    for (missing, kind) in [("sender", ErrorKind::Timeout), ("receiver", ErrorKind::InvalidMessage)] {
        let (place, call) = (Place::shared(true).await, call("success"));
        let answers = move |command: &Value| {
            let mut answer = minimal(command, &json!({ "payload": 1 }));
            answer.body.as_object_mut().unwrap().remove(missing);
            Some(answer)
        };
        let _service = Service::start(&place, &listener("command-echo"), answers).await;
        let bridge = place.bridge().await;
        let draft: CommandDraft = call.draft();
        let options = InvokeOptions::default().with_timeout(Duration::from_millis(300));
        let outcome = within("the time limit", bridge.invoke_command(draft, &options)).await;
        assert_eq!(outcome.unwrap_err().bridge_kind(), Some(kind), "without {missing}");
        assert_eq!(bridge.stats().malformed, 1, "without {missing}");
    }
}
