//! A caller of ours calls a service of the original.

use std::time::Duration;

use purista_core::{ErrorKind, EventBridge as _, InvokeError, InvokeOptions, StatusCode};
use serde_json::{Value, json};

use super::{
    peer::{Peer, answer_as_in, take_out_trace},
    samples::{CALLER, Frame, call, calls},
};
use crate::support::{Place, invoke, started, within};

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_original_reach_the_caller() {
    for call in calls().into_iter().filter(|call| call.answer.is_some()) {
        let place = Place::shared().await;
        let (peer, sample) = (Peer::new(&place).await, call.clone());
        let answers = move |command: &Frame| Some(answer_as_in(&sample, command));
        let _service = peer.serve(&call.address(), answers).await;
        let bridge = started(place.typescript()).await;

        // The original executes it, whatever instance it is meant for, but only the one of the sample is asked for.
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

/// What the service gets: all properties, headers and fields of the original's own caller, and a time limit.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_those_of_the_original() {
    for call in calls() {
        let place = Place::shared().await;
        let mut sample = call.clone();
        sample.answer.get_or_insert(crate::interop::samples::call("success").answer().clone());
        let mut answer = sample.answer.take().unwrap();
        answer.body["messageType"] = json!("commandSuccessResponse");
        answer.body["sender"]["serviceTarget"] = json!(call.address().service_target.as_str());
        sample.answer = Some(answer);
        let answers = move |command: &Frame| Some(answer_as_in(&sample, command));
        let service = Peer::new(&place).await.serve(&call.address(), answers).await;
        let bridge = started(place.typescript().instance_id(CALLER)).await;
        invoke(&bridge, call.draft()).await.unwrap_or_else(|error| panic!("{}: {error:?}", call.case));

        let [command] = &service.commands()[..] else { panic!("{}: not one command", call.case) };
        let properties = |mut frame: Frame| {
            for (property, field) in
                [("messageId", "id"), ("correlationId", "correlationId"), ("timestamp", "timestamp")]
            {
                let value = frame.properties.as_object_mut().unwrap().remove(property).unwrap();
                assert_eq!(value, frame.body.as_object_mut().unwrap().remove(field).unwrap(), "{property}");
                assert!(value.is_u64() || value.as_str().unwrap().len() == 32, "{property}: {value}");
            }
            let reply_to = frame.properties.as_object_mut().unwrap().remove("replyTo").unwrap();
            assert!(!reply_to.as_str().unwrap().is_empty());
            frame
        };
        let (mut ours, mut theirs) = (properties(command.clone()), properties(call.command));
        let limit = ours.properties.as_object_mut().unwrap().remove("expiration").unwrap();
        let limit: u64 = limit.as_str().unwrap().parse().unwrap();
        assert!((1..=10_000).contains(&limit), "{limit}");
        assert_eq!(take_out_trace(&mut ours.properties), None);
        assert!(take_out_trace(&mut theirs.properties).is_some());
        assert_eq!(ours.properties, theirs.properties, "{}", call.case);
        assert_eq!(ours.body, theirs.body, "{}", call.case);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_peer_serves_is_known_at_once() {
    let (place, call) = (Place::shared().await, call("unknown-command"));
    let _peer = Peer::new(&place).await;
    let bridge = started(place.typescript()).await;
    let error = invoke(&bridge, call.draft()).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
}

/// The call whose service gives the sample's answer with these changes.
async fn answered_with(change: impl Fn(&mut Frame) + Send + 'static) -> Result<Option<Value>, InvokeError> {
    let (place, sample) = (Place::shared().await, call("success"));
    let answers = move |command: &Frame| {
        let mut answer = answer_as_in(&sample, command);
        change(&mut answer);
        Some(answer)
    };
    let _service = Peer::new(&place).await.serve(&call("success").address(), answers).await;
    let bridge = started(place.typescript()).await;
    let options = InvokeOptions::default().with_timeout(Duration::from_secs(1));
    let answer = bridge.invoke_command(call("success").draft(), &options);
    let response = within("an answer or its absence", answer).await?;
    Ok(response.payload().map(|payload| payload.deserialize().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_no_more_than_its_call_and_its_sender() {
    let answer = answered_with(|answer| {
        let body = answer.body.as_object_mut().unwrap();
        body.retain(|key, _| {
            ["messageType", "correlationId", "sender", "receiver", "payload"].contains(&key.as_str())
        });
        let reply_to = answer.properties["headers"]["replyTo"].clone();
        answer.properties = json!({ "headers": { "replyTo": reply_to } });
    });
    assert_eq!(answer.await.unwrap(), Some(call("success").answer().body["payload"].clone()));
}

/// The original takes an answer that does not say who sent it. We do not: anyone could have.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_sender_is_none() {
    let answer = answered_with(|answer| {
        answer.body.as_object_mut().unwrap().remove("sender");
    });
    assert_eq!(answer.await.unwrap_err().bridge_kind(), Some(ErrorKind::Timeout));
}
