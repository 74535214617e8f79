//! Calls between ours and the TypeScript original.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use purista_core::{
    Capability, CommandDraft, CommandHandler, CommandOptions, ErrorKind, EventBridge, EventBridgeExt as _,
    InvokeError, InvokeOptions, Payload, Receiver,
};
use serde_json::{Value, json};

use crate::{
    case::{Case, Outcome, case},
    original::{Bodies, Original, Part},
    probe::{Collector, grows_to, on_command},
    profile::{DeploymentOptions, OriginalNames},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("WIR-1", one_of_both_executes, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-2", chosen_names, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-3", the_parameter_goes_along, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-6", another_instance_answers, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-7", a_named_instance_is_reached, Capability::WireCompatible, else "the wire is our own"),
];

const CALLS: usize = 40;

/// The time limit of calls that must end long before it.
const LONG: Duration = Duration::from_secs(30);

/// How long what happens at once may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Executes a command by its input, and notes it.
fn noting(seen: &Arc<Collector>) -> Arc<dyn CommandHandler> {
    let seen = Arc::clone(seen);
    on_command(move |context| {
        seen.record(&context);
        async move { Ok(context.message().payload().cloned()) }
    })
}

/// Starts an instance of the original.
pub(super) async fn original(stage: &Stage, part: &Part) -> Result<Box<dyn Original>> {
    stage.deployment().original(part).await.context("the peer could not start")
}

/// Sends a message of the original.
pub(super) async fn send(peer: &dyn Original, message: &Value) -> Result<()> {
    Ok(peer.send(message, message.to_string().into()).await?)
}

/// Two instances of the original: one serves `work`, the other one calls.
struct Originals {
    serving: Part,
    server: Box<dyn Original>,
    calling: Part,
    caller: Box<dyn Original>,
}

impl Originals {
    async fn start(stage: &Stage) -> Result<Self> {
        let serving = Part::new(stage.unique("original").to_string()).serving(stage.address("work"));
        let server = original(stage, &serving).await?;
        let calling = Part::new(stage.unique("caller").to_string());
        let caller = original(stage, &calling).await?;
        Ok(Self { serving, server, calling, caller })
    }

    /// Makes a command of the one that calls.
    fn command(&self, stage: &Stage, receiver: impl Into<Receiver>, payload: Value) -> Value {
        self.calling.command(&stage.address("caller"), receiver, payload)
    }

    /// Calls a command as the original does, and returns the answer.
    async fn call(&self, command: &Value) -> Result<Value> {
        send(&*self.caller, command).await?;
        self.calling.answers.answer_to(command).await
    }
}

/// The original beside instances of ours, one of which serves `work`, too.
struct BothServe {
    service: Arc<dyn EventBridge>,
    caller: Arc<dyn EventBridge>,
    /// What the instance of ours has executed.
    seen: Arc<Collector>,
    originals: Originals,
}

impl BothServe {
    async fn start(stage: &Stage) -> Result<Self> {
        let (service, caller, seen) = (stage.bridge().await?, stage.bridge().await?, Collector::new());
        stage.serve(&*service, "work", CommandOptions::default(), noting(&seen)).await?;
        stage.begin().await?;
        Ok(Self { service, caller, seen, originals: Originals::start(stage).await? })
    }
}

async fn one_of_both_executes(stage: Stage) -> Outcome {
    let BothServe { service: _service, caller, seen, originals } = BothServe::start(&stage).await?;

    let mut sent = BTreeSet::new();
    for number in 0..CALLS {
        let command = originals.command(&stage, stage.address("work"), json!(number));
        let answer = originals.call(&command).await?;
        ensure!(answer["payload"] == json!(number), "call {number} of the original was answered {answer}");
        sent.insert(command["correlationId"].to_string());
        let answer = stage.invoke(&*caller, "work", &number).await?;
        ensure!(answer.payload() == Some(&Payload::json(&number)?), "call {number} was answered {answer:?}");
        sent.insert(json!(answer.correlation_id).to_string());
    }
    let theirs = originals.serving.served()?;
    let mut executed: Vec<_> = theirs.all().iter().map(|body| body["correlationId"].to_string()).collect();
    let of_theirs = executed.len();
    executed.extend(seen.messages().iter().map(|command| json!(command.correlation_id).to_string()));
    let of_ours = executed.len() - of_theirs;
    ensure!(of_theirs > 0 && of_ours > 0, "{of_theirs} were executed by the original, {of_ours} by ours");
    ensure!(executed.len() == sent.len(), "{} executions of {} commands", executed.len(), sent.len());
    ensure!(executed.into_iter().collect::<BTreeSet<_>>() == sent, "not each was executed");
    Ok(())
}

async fn chosen_names(mut stage: Stage) -> Outcome {
    let options = DeploymentOptions { original_names: OriginalNames::Chosen, ..DeploymentOptions::default() };
    stage.redeploy(options).await?;
    one_of_both_executes(stage).await
}

async fn the_parameter_goes_along(stage: Stage) -> Outcome {
    let (service, caller) = (stage.bridge().await?, stage.bridge().await?);
    // Says whether it got a parameter, and passes the call on.
    let relay = stage.address("work");
    let handler = on_command(move |context| {
        let relay = relay.clone();
        async move {
            let given: Option<Value> = context.parameter()?;
            let _answer: Value = context.invoke(relay, &given).await?;
            Ok(Some(Payload::json(&given)?))
        }
    });
    stage.serve(&*service, "relay", CommandOptions::default(), handler).await?;
    stage.begin().await?;
    let originals = Originals::start(&stage).await?;

    let parameter = json!({ "page": 7 });
    let _: Value = caller.invoke(stage.address("work"), &1).await?;
    let _: Value = caller.call(stage.address("work")).parameter(&parameter).timeout(LONG).invoke(&2).await?;
    for (given, told) in [(json!({}), Value::Null), (parameter.clone(), parameter.clone())] {
        let mut command = originals.command(&stage, stage.address("relay"), json!(3));
        command["payload"]["parameter"] = given;
        let answer = originals.call(&command).await?;
        ensure!(answer["payload"] == told, "a handler of ours read {}", answer["payload"]);
    }
    drop(originals.server);
    let came: Vec<_> =
        originals.serving.served()?.all().into_iter().map(|body| body["payload"].clone()).collect();
    let expected = [
        json!({ "payload": 1, "parameter": {} }),
        json!({ "payload": 2, "parameter": parameter }),
        json!({ "payload": null, "parameter": {} }),
        json!({ "payload": parameter, "parameter": {} }),
    ];
    ensure!(came == expected, "the original got {came:?}");
    Ok(())
}

/// Calls a command of a named instance, and returns what came of it, which must be soon.
async fn call_named(
    stage: &Stage,
    caller: &dyn EventBridge,
    instance_id: &str,
    input: usize,
) -> Result<Result<String, InvokeError>> {
    let receiver = Receiver::new(stage.address("work")).with_instance_id(instance_id);
    let draft = CommandDraft::new(stage.address("caller"), receiver).with_payload(Payload::json(&input)?);
    let began = Instant::now();
    let outcome = caller.invoke_command(draft, &InvokeOptions::default().with_timeout(LONG)).await;
    ensure!(began.elapsed() < AT_ONCE, "after {:?}: {outcome:?}", began.elapsed());
    Ok(outcome.map(|answer| answer.sender.instance_id.to_string()))
}

async fn another_instance_answers(stage: Stage) -> Outcome {
    let caller = stage.bridge().await?;
    stage.begin().await?;
    let part = Part::new(stage.unique("original").to_string()).serving(stage.address("work"));
    let _peer = original(&stage, &part).await?;
    for (number, asked) in ["another", part.instance_id.as_str()].into_iter().cycle().take(6).enumerate() {
        let outcome = call_named(&stage, &*caller, asked, number).await?;
        match outcome {
            Ok(answered) => ensure!(asked == answered, "{answered} answered instead of {asked}"),
            Err(error) => ensure!(
                asked == "another" && error.bridge_kind() == Some(ErrorKind::OtherInstance),
                "{asked} was asked: {error:?}"
            ),
        }
    }
    let stats = caller.stats();
    ensure!(stats.misdirected == 3 && stats.pending_calls == 0 && stats.forged_responses == 0, "{stats:?}");
    ensure!(part.served()?.count() == 6, "{} of 6 commands were executed", part.served()?.count());
    Ok(())
}

async fn a_named_instance_is_reached(stage: Stage) -> Outcome {
    let BothServe { service, caller, seen, originals } = BothServe::start(&stage).await?;
    let part = &originals.serving;
    let hands_on = stage.deployment().hands_on_to_original();

    let mut reached = 0;
    for number in 0..CALLS {
        let named = Receiver::new(stage.address("work")).with_instance_id(part.instance_id.as_str());
        let command = originals.command(&stage, named, json!(number));
        let began = Instant::now();
        let answer = originals.call(&command).await?;
        ensure!(began.elapsed() < AT_ONCE, "the original heard after {:?}: {answer}", began.elapsed());
        if answer["messageType"] == "commandSuccessResponse" {
            reached += 1;
        } else {
            ensure!(!hands_on && answer["payload"]["status"] == 421, "the original heard {answer}");
        }
        match call_named(&stage, &*caller, &part.instance_id, number).await? {
            Ok(_) => reached += 1,
            Err(error) => {
                ensure!(!hands_on && error.bridge_kind() == Some(ErrorKind::NoHandler), "{error:?}");
            }
        }
    }
    // Commands for the other instance share the route.
    let receiver = Receiver::new(stage.address("work")).with_instance_id(service.instance_id());
    let draft = CommandDraft::new(stage.address("caller"), receiver);
    if let Ok(answer) = caller.invoke_command(draft, &InvokeOptions::default().with_timeout(LONG)).await {
        ensure!(answer.sender.instance_id == *service.instance_id(), "{answer:?}");
    }
    let of_ours = seen.messages();
    let ours = |command: &Arc<purista_core::Message>| {
        let named = command.receiver.as_ref().and_then(|receiver| receiver.instance_id.clone());
        named.as_ref() == Some(service.instance_id())
    };
    ensure!(of_ours.iter().all(ours), "an instance of ours executed what was for the original: {of_ours:?}");
    let executed = part.served()?.all();
    let executed = executed.iter().filter(|body| body["receiver"]["instanceId"] == part.instance_id.as_str());
    ensure!(executed.count() == reached && reached > 0, "{reached} calls reached the instance");
    Ok(())
}

/// Sends bytes on the route of a command, and returns the answer.
pub(super) async fn call_with(
    peer: &dyn Original,
    answers: &Bodies,
    command: &Value,
    body: impl Into<Bytes>,
) -> Result<Value> {
    peer.send(command, body.into()).await?;
    answers.answer_to(command).await
}

/// Waits until so many bodies came.
pub(super) async fn came(bodies: &Bodies, wanted: usize) -> Result<()> {
    grows_to(wanted, "messages of the original", || bodies.count()).await
}
