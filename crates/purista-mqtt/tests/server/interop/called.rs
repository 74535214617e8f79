//! A caller of ours calls a service of the original.

use std::time::Duration;

use purista_core::{ErrorKind, EventBridge as _, InvokeError, StatusCode};
use serde_json::{Value, json};

use super::{
    peer::{Service, answer_as_in, take_out_expiry, take_out_user_properties},
    samples::{CALLER, Frame, call, calls},
};
use crate::support::{Place, eventually, invoke, invoke_within, within};

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_original_reach_the_caller() {
    for (call, has_data) in calls().into_iter().flat_map(|call| [(call.clone(), true), (call, false)]) {
        if call.answer.is_none() {
            continue;
        }
        let (place, sample) = (Place::stock().await, call.clone());
        let answers = move |command: &Frame| {
            let mut answer = answer_as_in(&sample, command);
            if !has_data {
                answer.properties.as_object_mut().unwrap().remove("correlationData");
            }
            Some(answer)
        };
        let _service = Service::start(place.client().await, &call.address(), answers).await;
        let bridge = place.bridge().await;

        let outcome = invoke(&bridge, call.draft()).await;
        let expected = &call.answer().body["payload"];
        match (call.case.as_str(), outcome) {
            ("handled-error", Err(InvokeError::Handled(error))) => {
                assert_eq!(error.status(), StatusCode::CONFLICT);
                assert_eq!(error.message(), "the order was shipped");
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

/// What the service gets: topic, properties and all fields of the original's own caller, and the caller's time limit.
#[tokio::test(flavor = "multi_thread")]
async fn commands_are_those_of_the_original() {
    for call in calls() {
        let place = Place::stock().await;
        let mut sample = call.clone();
        let mut answer = super::samples::call("success").answer().clone();
        answer.body["sender"]["serviceTarget"] = json!(call.address().service_target.as_str());
        for key in ["principalId", "tenantId"] {
            if let Some(id) = call.command.body.get(key) {
                answer.body[key] = id.clone();
            }
        }
        sample.answer = Some(answer);
        let answers = move |command: &Frame| Some(answer_as_in(&sample, command));
        let service = Service::start(place.client().await, &call.address(), answers).await;
        let bridge = place.instance(CALLER).await;
        invoke(&bridge, call.draft()).await.unwrap_or_else(|error| panic!("{}: {error:?}", call.case));

        let [command] = &service.commands()[..] else { panic!("{}: not one command", call.case) };
        let take_out_ids = |mut frame: Frame| {
            let id = frame.body["correlationId"].take();
            assert_eq!(frame.properties["correlationData"].take(), id);
            for id in [id, frame.body["id"].take()] {
                assert_eq!(id.as_str().unwrap().len(), 32, "{id}");
            }
            assert!(frame.body["timestamp"].take().is_u64());
            frame
        };
        let (mut ours, mut theirs) = (take_out_ids(command.clone()), take_out_ids(call.command.clone()));
        assert!((9..=10).contains(&take_out_expiry(&mut ours)), "{}", call.case);
        take_out_expiry(&mut theirs);
        take_out_user_properties(&mut theirs);
        assert_eq!(ours, theirs, "{}", call.case);
    }
}

/// The original lets the broker drop a command of less than half a second at once.
#[tokio::test(flavor = "multi_thread")]
async fn short_time_limits_are_rounded_up() {
    let (place, call) = (Place::stock().await, call("success"));
    let service = Service::start(place.client().await, &call.address(), |_| None).await;
    let bridge = place.bridge().await;
    for milliseconds in [1, 499, 1_200] {
        let limit = Duration::from_millis(milliseconds);
        let error = invoke_within(&bridge, call.draft(), limit).await.unwrap_err();
        assert_eq!(error.bridge_kind(), Some(ErrorKind::Timeout), "{error:?}");
    }
    eventually("all came", || service.commands().len() == 3).await;
    let expiries: Vec<_> = service.commands().iter_mut().map(take_out_expiry).collect();
    assert_eq!(expiries, [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_peer_serves_is_known_at_once() {
    let (place, call) = (Place::stock().await, call("unknown-command"));
    let other = super::samples::call("success").address();
    let _service = Service::start(place.client().await, &other, |_| None).await;
    let bridge = place.bridge().await;
    let error = invoke(&bridge, call.draft()).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
}

/// The call whose service gives the sample's answer with these changes.
async fn answered_with(change: impl Fn(&mut Frame) + Send + 'static) -> Result<Option<Value>, InvokeError> {
    let (place, sample) = (Place::stock().await, call("success"));
    let answers = move |command: &Frame| {
        let mut answer = answer_as_in(&sample, command);
        change(&mut answer);
        Some(answer)
    };
    let _service = Service::start(place.client().await, &call("success").address(), answers).await;
    let bridge = place.bridge().await;
    let answer = invoke_within(&bridge, call("success").draft(), Duration::from_secs(1));
    let response = within("an answer or its absence", answer).await?;
    Ok(response.payload().map(|payload| payload.deserialize().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_needs_no_more_than_its_call_and_its_sender() {
    let answer = answered_with(|answer| {
        answer.properties = json!({});
        let needed = ["messageType", "correlationId", "sender", "receiver", "payload"];
        answer.body.as_object_mut().unwrap().retain(|key, _| needed.contains(&key.as_str()));
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
