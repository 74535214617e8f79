//! Instances of ours and of the original share a command.

use std::{collections::BTreeSet, sync::Arc};

use purista_conformance::{Collector, on_command};
use purista_core::{CommandDraft, Payload, ServiceAddress};
use serde_json::Value;

use super::{
    peer::{Caller, Service, again, answer_as_in},
    samples::{call, listener},
};
use crate::support::{Place, body, invoke, serve};

const CALLS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_executed_by_one_of_ours_or_of_theirs() {
    let (place, call) = (Place::shared(true).await, call("success"));
    let sample = call.clone();
    let answers = move |command: &Value| Some(answer_as_in(&sample, command));
    let theirs = Service::start(&place, &listener("command-echo"), answers).await;
    let ours = Collector::new();
    let service = place.bridge().await;
    let log = Arc::clone(&ours);
    let handler = on_command(move |context| {
        log.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    });
    serve(&service, call.address(), handler).await;

    let mut sent = BTreeSet::new();
    let mut caller = Caller::new(&place).await;
    for number in 0..CALLS {
        let command = again(&call.command, number);
        sent.insert(command["correlationId"].as_str().unwrap().to_owned());
        caller.send(place.here(&call.subject), &command).await;
        let answer = body(&caller.answer().await);
        assert_eq!(answer["correlationId"], command["correlationId"]);
    }
    let bridge = place.bridge().await;
    for number in 0..CALLS {
        let draft = CommandDraft::new(ServiceAddress::client(), call.address());
        let draft = draft.with_payload(Payload::json(&number).unwrap());
        let response = invoke(&bridge, draft).await.unwrap();
        sent.insert(response.correlation_id.as_ref().unwrap().to_string());
    }

    let theirs = theirs.commands().into_iter().map(|command| body(&command)["correlationId"].clone());
    let theirs: Vec<_> = theirs.map(|id| id.as_str().unwrap().to_owned()).collect();
    let ours =
        ours.messages().into_iter().map(|command| command.correlation_id.as_ref().unwrap().to_string());
    let ours: Vec<_> = ours.collect();
    assert!(ours.len() > CALLS / 4 && theirs.len() > CALLS / 4, "{} and {}", ours.len(), theirs.len());
    assert_eq!(ours.len() + theirs.len(), 2 * CALLS);
    assert_eq!(ours.into_iter().chain(theirs).collect::<BTreeSet<_>>(), sent);
}
