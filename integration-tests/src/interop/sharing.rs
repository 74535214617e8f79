//! Instances of ours and of the original serve the same command.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use purista_conformance::{Collector, on_command};
use purista_core::{CommandDraft, CommandOptions, EventBridge, Payload, ServiceAddress};
use serde_json::{Value, json};

use super::{
    peer::{Caller, Service, again},
    scene::{PATIENCE, invoke, same, serve},
    wire::Wire,
};

const CALLS: usize = 60;

async fn their_service<W: Wire>(wire: &W) -> Result<Service> {
    let call = W::call("success")?;
    Ok(Service::start_as_in(wire, &call.address()?, call.answer()?.clone()).await)
}

async fn our_service<W: Wire>(wire: &W, seen: &Arc<Collector>) -> Result<Arc<dyn EventBridge>> {
    let (service, log) = (wire.bridge(None).await, Arc::clone(seen));
    let handler = on_command(move |context| {
        log.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    });
    serve(&*service, W::call("success")?.address()?, CommandOptions::default(), handler).await?;
    Ok(service)
}

fn draft<W: Wire>(number: usize) -> Result<CommandDraft> {
    let draft = CommandDraft::new(ServiceAddress::client(), W::call("success")?.address()?);
    Ok(draft.with_payload(Payload::json(&number)?))
}

async fn a_command_is_executed_by_one_of_ours_or_of_theirs<W: Wire>(theirs_first: bool) -> Result<()> {
    let (wire, call, ours) = (W::start().await, W::call("success")?, Collector::new());
    let early = if theirs_first { Some(their_service(&wire).await?) } else { None };
    let _service = our_service(&wire, &ours).await?;
    let theirs = match early {
        Some(theirs) => theirs,
        None => their_service(&wire).await?,
    };

    let (mut sent, mut caller) = (BTreeSet::new(), Caller::start(&wire).await?);
    let mut their_call = async |number| {
        let command = again::<W>(&call.command, number);
        let answer = caller.call(&command).await?;
        same("the answered call", &answer.body["correlationId"], &command.body["correlationId"])?;
        anyhow::Ok(command.body["correlationId"].to_string())
    };
    for number in 0..CALLS {
        sent.insert(their_call(number).await?);
    }
    let bridge = wire.bridge(None).await;
    for number in 0..CALLS {
        let response = invoke(&*bridge, draft::<W>(number)?).await?;
        sent.insert(json!(response.correlation_id).to_string());
    }
    // A second answer to a call would have come before the one to this.
    sent.insert(their_call(CALLS).await?);

    let id = |command: &Value| command["correlationId"].to_string();
    let theirs: Vec<_> = theirs.came().iter().map(|command| id(&command.body)).collect();
    let ours: Vec<_> =
        ours.messages().iter().map(|command| json!(command.correlation_id).to_string()).collect();
    ensure!(ours.len() > CALLS / 4 && theirs.len() > CALLS / 4, "{} and {}", ours.len(), theirs.len());
    same("executions", &(ours.len() + theirs.len()), &(2 * CALLS + 1))?;
    same("commands", &ours.into_iter().chain(theirs).collect(), &sent)
}

pub async fn we_join_a_command_of_the_original<W: Wire>() -> Result<()> {
    a_command_is_executed_by_one_of_ours_or_of_theirs::<W>(true).await
}

pub async fn the_original_joins_a_command_of_ours<W: Wire>() -> Result<()> {
    a_command_is_executed_by_one_of_ours_or_of_theirs::<W>(false).await
}

pub async fn ours_leaves_and_the_original_goes_on<W: Wire>() -> Result<()> {
    let (wire, ours) = (W::start().await, Collector::new());
    let (theirs, service) = (their_service(&wire).await?, our_service(&wire, &ours).await?);
    let bridge = wire.bridge(None).await;
    for number in 0..2 {
        invoke(&*bridge, draft::<W>(number)?).await?;
    }
    let report = service.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");
    let before = theirs.came().len();
    for number in 0..CALLS {
        let outcome = invoke(&*bridge, draft::<W>(number)?).await;
        outcome.with_context(|| format!("call {number}"))?;
    }
    same("executed by the original", &theirs.came().len(), &(before + CALLS))
}
