//! Who gets a command, and what the caller learns if nobody does.

use futures_util::future::join_all;
use purista_amqp::AmqpBridge;
use purista_core::{
    CommandDraft, EmitOptions, ErrorKind, EventBridge as _, EventDraft, Filter, InvokeOptions, Payload,
    Receiver, ServiceAddress,
};

use crate::support::{PATIENCE, Place, echo, invoke, serve, started, transient, watch};

const AT_ONCE: usize = 200;

async fn bridge(place: &Place, is_typescript: bool) -> AmqpBridge {
    started(if is_typescript { place.typescript() } else { place.builder() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_one_of_several_instances_is_served_by_that_one() {
    let place = Place::shared().await;
    let meant = place.bridge().await;
    let other = place.bridge().await;
    let caller = place.bridge().await;
    serve(&meant, ("User", "1", "echo"), echo()).await;
    serve(&other, ("User", "1", "echo"), echo()).await;
    let options = InvokeOptions::default().with_timeout(PATIENCE);
    for number in 0..20 {
        let receiver = Receiver::new(("User", "1", "echo")).with_instance_id(meant.instance_id());
        let draft = CommandDraft::new(ServiceAddress::client(), receiver);
        let answer = caller.invoke_command(draft, &options).await;
        let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        assert_eq!(answer.sender.instance_id, *meant.instance_id());
    }
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);

    let receiver = Receiver::new(("User", "1", "echo")).with_instance_id("nobody");
    let draft = CommandDraft::new(ServiceAddress::client(), receiver);
    let error = caller.invoke_command(draft, &options).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_one_of_several_instances_is_served_by_that_one_beside_the_original() {
    let place = Place::shared().await;
    let meant = started(place.typescript()).await;
    let other = started(place.typescript()).await;
    let caller = started(place.typescript()).await;
    serve(&meant, ("User", "1", "echo"), echo()).await;
    serve(&other, ("User", "1", "echo"), echo()).await;
    let options = InvokeOptions::default().with_timeout(PATIENCE);
    for number in 0..20 {
        let receiver = Receiver::new(("User", "1", "echo")).with_instance_id(meant.instance_id());
        let draft = CommandDraft::new(ServiceAddress::client(), receiver);
        let answer = caller.invoke_command(draft, &options).await;
        let answer = answer.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        assert_eq!(answer.sender.instance_id, *meant.instance_id());
    }
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);

    let receiver = Receiver::new(("User", "1", "echo")).with_instance_id("nobody");
    let draft = CommandDraft::new(ServiceAddress::client(), receiver);
    let error = caller.invoke_command(draft, &options).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
    assert_eq!([&meant, &other].map(|bridge| bridge.stats().executed), [20, 0]);
}

async fn exactly_the_calls_nobody_serves_fail(is_typescript: bool) {
    let place = Place::shared().await;
    let service = bridge(&place, is_typescript).await;
    serve(&service, ("User", "1", "echo"), echo()).await;
    let caller = bridge(&place, is_typescript).await;
    for step in [2, 3, 7, 50] {
        let calls = (0..AT_ONCE).map(|number| {
            let target = if number % step == 0 { "nothing" } else { "echo" };
            let draft = CommandDraft::new(ServiceAddress::client(), ("User", "1", target));
            invoke(&caller, draft.with_payload(Payload::json(&number).unwrap()))
        });
        for (number, outcome) in join_all(calls).await.into_iter().enumerate() {
            match outcome {
                Ok(answer) => {
                    assert_ne!(number % step, 0, "nobody could answer call {number}");
                    assert_eq!(answer.payload().unwrap().deserialize::<usize>().unwrap(), number);
                }
                Err(error) => {
                    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{number}: {error:?}");
                    assert_eq!(number % step, 0, "somebody serves call {number}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_calls_that_nobody_serves_fail() {
    exactly_the_calls_nobody_serves_fail(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_calls_that_nobody_serves_fail_beside_the_original() {
    exactly_the_calls_nobody_serves_fail(true).await;
}

async fn exactly_the_events_nobody_gets_fail(is_typescript: bool) {
    let place = Place::shared().await;
    let emitter = bridge(&place, is_typescript).await;
    let (heard, _) = watch(&emitter, "listener", Filter::event("heard"), transient()).await.unwrap();
    let must_route = EmitOptions::default().with_must_route(true);
    let mut expected = Vec::new();
    for step in [2, 3, 7, 50] {
        let emits = (0..AT_ONCE).map(|number| {
            let event_name = if number % step == 0 { "unheard" } else { "heard" };
            let draft = EventDraft::event(ServiceAddress::client(), event_name);
            emitter.emit_message(draft.with_payload(Payload::json(&number).unwrap()), &must_route)
        });
        for (number, outcome) in join_all(emits).await.into_iter().enumerate() {
            match outcome {
                Ok(_) => {
                    assert_ne!(number % step, 0, "nobody could get event {number}");
                    expected.push(number);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unroutable, "{number}: {error:?}");
                    assert_eq!(number % step, 0, "somebody gets event {number}");
                }
            }
        }
    }
    heard.at_least(expected.len()).await.unwrap();
    let mut came: Vec<usize> = heard.payloads().iter().map(|number| number.parse().unwrap()).collect();
    came.sort_unstable();
    expected.sort_unstable();
    assert_eq!(came, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_events_that_nobody_gets_fail() {
    exactly_the_events_nobody_gets_fail(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_events_that_nobody_gets_fail_beside_the_original() {
    exactly_the_events_nobody_gets_fail(true).await;
}
