//! Instances of ours and of the original serve the same command.

use std::{collections::BTreeSet, sync::Arc};

use purista_conformance::{Collector, on_command};
use purista_core::{CommandDraft, EventBridge as _, Payload, ServiceAddress};
use purista_mqtt::MqttBridge;

use super::{
    peer::{Service, again, answer_as_in, answers_of, frame, send},
    samples::{CALLER, Frame, call},
};
use crate::support::{PATIENCE, Place, invoke, serve};

const CALLS: usize = 60;

async fn their_service(place: &Place) -> Service {
    let sample = call("success");
    let answers = move |command: &Frame| Some(answer_as_in(&sample, command));
    Service::start(place.client().await, &call("success").address(), answers).await
}

async fn our_service(place: &Place, seen: &Arc<Collector>) -> MqttBridge {
    let (service, log) = (place.bridge().await, Arc::clone(seen));
    let handler = on_command(move |context| {
        log.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    });
    serve(&service, call("success").address(), handler).await;
    service
}

fn draft(number: usize) -> CommandDraft {
    let draft = CommandDraft::new(ServiceAddress::client(), call("success").address());
    draft.with_payload(Payload::json(&number).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_executed_by_one_of_ours_or_of_theirs() {
    let (place, call) = (Place::stock().await, call("success"));
    let ours = Collector::new();
    let (theirs, _service) = (their_service(&place).await, our_service(&place, &ours).await);
    let mut caller = place.client().await;
    caller.subscribe(&answers_of(CALLER)).await;
    let mut sent = BTreeSet::new();
    for number in 0..CALLS {
        let command = again(&call.command, number);
        sent.insert(command.body["correlationId"].as_str().unwrap().to_owned());
        send(&caller, &command).await;
        let answer = frame(&caller.next().await);
        assert_eq!(answer.body["correlationId"], command.body["correlationId"]);
    }
    assert_eq!(caller.all().await, [], "answered twice");
    let bridge = place.bridge().await;
    for number in 0..CALLS {
        let response = invoke(&bridge, draft(number)).await.unwrap();
        sent.insert(response.correlation_id.as_ref().unwrap().to_string());
    }

    let theirs = theirs.commands().into_iter();
    let theirs: Vec<_> =
        theirs.map(|command| command.body["correlationId"].as_str().unwrap().to_owned()).collect();
    let ours = ours.messages().into_iter();
    let ours: Vec<_> = ours.map(|command| command.correlation_id.as_ref().unwrap().to_string()).collect();
    assert!(ours.len() > CALLS / 4 && theirs.len() > CALLS / 4, "{} and {}", ours.len(), theirs.len());
    assert_eq!(ours.len() + theirs.len(), 2 * CALLS);
    assert_eq!(ours.into_iter().chain(theirs).collect::<BTreeSet<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_leaves_and_the_original_goes_on() {
    let place = Place::stock().await;
    let ours = Collector::new();
    let (theirs, service) = (their_service(&place).await, our_service(&place, &ours).await);
    let bridge = place.bridge().await;
    invoke(&bridge, draft(0)).await.unwrap();
    invoke(&bridge, draft(1)).await.unwrap();
    let report = service.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report:?}");
    let before = theirs.commands().len();
    for number in 0..CALLS {
        invoke(&bridge, draft(number)).await.unwrap();
    }
    assert_eq!(theirs.commands().len(), before + CALLS);
}
