//! What travels.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use purista_core::{
    Body, Capability, CommandDraft, CommandOptions, EventBridge, EventDraft, Filter, HandledError, Id,
    InvokeError, InvokeOptions, Message, MessageType, Name, Payload, Receiver, Sender, ServiceAddress,
    StatusCode, TraceContext,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    case::{Case, Outcome, case},
    fields::is_as_drafted,
    probe::{Collector, echo, on_command, on_event},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("ENV-1", every_type_arrives_as_it_was_sent),
    case!("ENV-4", the_bridge_stamps),
    case!("ENV-6", a_header_contradicts, Capability::NativeHeaders, else "no headers beside the envelope"),
];

async fn a_header_contradicts(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let seen = stage.watch(&*bridge, "subscriber", Filter::event(stage.unique("event"))).await?;
    stage.begin().await?;
    let with_tenant = |tenant: &str| -> Result<Message> {
        Ok(stage.event("event", tenant)?.with_tenant_id(tenant).stamp(&Id::from("peer")))
    };
    let (one, other) = (with_tenant("one")?, with_tenant("other")?);
    let deployment = stage.deployment();
    let has_headers = deployment.inject_with_tenant_header(one.encode(), "other").await?;
    ensure!(has_headers, "native headers are claimed, and the test profile knows none");
    // The right header shows that it was the wrong one that was refused.
    deployment.inject_with_tenant_header(other.encode(), "other").await?;
    seen.sentinel("\"other\"").await?;
    ensure!(seen.count() == 1, "a contradicting header was believed: {:?}", seen.payloads());
    ensure!(bridge.stats().malformed == 1, "{:?}", bridge.stats());
    Ok(())
}

async fn every_type_arrives_as_it_was_sent(stage: Stage) -> Outcome {
    let (near, far) = try_join(stage.bridge(), stage.bridge()).await?;
    let commands = Collector::new();
    let taken = Arc::clone(&commands);
    let handler = on_command(move |context| {
        taken.record(&context);
        let (payload, parameter) =
            (context.message().payload().cloned(), context.message().parameter().cloned());
        async move {
            let Some(failure) = parameter else { return Ok(payload) };
            Err(HandledError::new(StatusCode::CONFLICT, "as you wish").with_data(&failure)?.into())
        }
    });
    let options = CommandOptions::default().with_success_event(stage.unique("answered"));
    stage.serve(&*far, "answer", options, handler).await?;
    let watch = stage.watch(&*far, "watch", Filter::any()).await?;
    stage.begin().await?;

    let mut rng = StdRng::seed_from_u64(stage.seed());
    for _ in 0..256 {
        for draft in random_events(&mut rng)? {
            let sent = near.emit_message(draft.clone(), &patient_emit()).await?;
            is_as_drafted(draft.stamp(near.instance_id()), &sent)?;
            let came = watch.message(sent.message_type(), &sent.id).await?;
            ensure!(came == sent, "sent {sent:?}, came {came:?}");
        }

        let draft = random_command(&mut rng, stage.address("answer"))?;
        let answer = near.invoke_command(draft.clone(), &InvokeOptions::default()).await;
        let command = commands.messages().pop().context("the command did not run")?;
        is_as_drafted(draft.stamp(near.instance_id()), &command)?;
        let seen = watch.message(MessageType::Command, &command.id).await?;
        ensure!(seen == command, "executed {command:?}, a subscriber saw {seen:?}");

        let response_type = match &answer {
            Ok(_) => MessageType::CommandSuccessResponse,
            Err(_) => MessageType::CommandErrorResponse,
        };
        let response = watch.message(response_type, &command.id).await?;
        match answer {
            Ok(answer) => ensure!(answer == response, "the caller got {answer:?}, a subscriber {response:?}"),
            Err(InvokeError::Handled(error)) => ensure!(error.data() == command.parameter(), "{error:?}"),
            Err(error) => return Err(error.into()),
        }
        is_response_to(&command, &response, far.instance_id(), stage.unique("answered"))?;
    }
    Ok(())
}

/// Checks all but the trace, which `OBS-1` is about.
fn is_response_to(command: &Message, response: &Message, responder: &Id, success_event: Name) -> Result<()> {
    let mut expected = command.clone();
    let receiver = command.receiver.as_ref().context("nobody was asked")?;
    expected.sender = Sender::new(receiver.address.clone(), responder.clone());
    let caller = Receiver::new(&command.sender.address).with_instance_id(&command.sender.instance_id);
    expected.receiver = Some(caller);
    expected.event_name = command.parameter().is_none().then_some(success_event);
    expected.body = match command.parameter() {
        None => Body::CommandSuccessResponse(command.payload().cloned()),
        data => {
            ensure!(response.error_payload()?.data.as_ref() == data, "{data:?} came with {response:?}");
            response.body.clone()
        }
    };
    expected.timestamp = response.timestamp;
    expected.trace_id = command.trace_id.clone().or_else(|| response.trace_id.clone());
    expected.trace_context = response.trace_context.clone();
    ensure!(*response == expected, "expected {expected:?}, came {response:?}");
    Ok(())
}

/// Sets each of the optional fields that events and commands have, or not.
macro_rules! with_random_fields {
    ($draft:expr, $rng:expr) => {{
        let mut draft = $draft;
        if $rng.random() {
            draft = draft.with_event_name(word($rng));
        }
        if $rng.random() {
            draft = draft.with_principal_id(word($rng));
        }
        if $rng.random() {
            draft = draft.with_tenant_id(word($rng));
        }
        if $rng.random() {
            draft = draft.with_trace_id(word($rng));
        }
        if $rng.random() {
            draft = draft.with_trace_context(trace_context($rng)?);
        }
        if $rng.random() {
            draft = draft.with_payload(payload($rng)?);
        }
        draft
    }};
}

/// Drafts one message of each type that can be emitted.
fn random_events(rng: &mut StdRng) -> Result<Vec<EventDraft>> {
    let mut drafts = vec![EventDraft::custom(address(rng))];
    drafts.extend(MessageType::ALL.iter().filter_map(|kind| EventDraft::info(address(rng), *kind)));
    let with_fields = |draft: EventDraft| {
        let mut draft = with_random_fields!(draft, rng);
        if rng.random() {
            draft = draft.with_correlation_id(word(rng));
        }
        if rng.random() {
            let anyone = Receiver::new(address(rng));
            draft =
                draft.with_receiver(if rng.random() { anyone.with_instance_id(word(rng)) } else { anyone });
        }
        Ok(draft)
    };
    drafts.into_iter().map(with_fields).collect()
}

fn random_command(rng: &mut StdRng, receiver: ServiceAddress) -> Result<CommandDraft> {
    let draft = with_random_fields!(CommandDraft::new(address(rng), receiver), rng);
    Ok(if rng.random() { draft.with_parameter(payload(rng)?) } else { draft })
}

fn address(rng: &mut StdRng) -> ServiceAddress {
    ServiceAddress::new(word(rng), word(rng), word(rng))
}

fn word(rng: &mut StdRng) -> String {
    const LETTERS: [&str; 16] =
        ["a", "Z", "7", "-", "_", ".", "/", " ", "\"", "\\", "ä", "ß", "Ω", "日", "ع", "😀"];
    let length = rng.random_range(1..=20);
    (0..length).map(|_| LETTERS[rng.random_range(0..LETTERS.len())]).collect()
}

fn trace_context(rng: &mut StdRng) -> Result<TraceContext> {
    let (trace, span) = (rng.random::<u128>() | 1, rng.random::<u64>() | 1);
    let traceparent = format!("00-{trace:032x}-{span:016x}-01");
    let (tracestate, baggage) = (rng.random::<bool>(), rng.random::<bool>());
    TraceContext::from_fields(
        Some(traceparent),
        tracestate.then(|| "vendor=1".to_owned()),
        baggage.then(|| "user=ada".to_owned()),
    )
    .context("a malformed trace context")
}

fn payload(rng: &mut StdRng) -> Result<Payload> {
    Ok(match rng.random_range(0..6) {
        0 => Payload::json(&word(rng))?,
        1 => Payload::json(&[word(rng), word(rng)])?,
        2 => Payload::json(&serde_json::json!({ word(rng): { word(rng): [null, true, word(rng)] } }))?,
        3 => Payload::from_json_text(format!(
            "-{}{}.{}e-7",
            u64::MAX,
            rng.random::<u64>(),
            rng.random::<u64>()
        ))?,
        4 => Payload::from_json_text("{ \"b\" : 1.0 , \"a\" : [ 1e2 , \"\\u00e4\\/\" ] }")?,
        _ => Payload::json(&())?,
    })
}

async fn the_bridge_stamps(stage: Stage) -> Outcome {
    let began = unix_millis()?;
    let (near, far) = try_join(stage.bridge(), stage.bridge()).await?;
    let watch = stage.watch(&*far, "watch", Filter::any().with_tenant_id(stage.unique("tenant"))).await?;
    let relayed = stage.unique("relayed");
    let name = relayed.clone();
    let relay = on_event(move |context| {
        let name = name.clone();
        async move { context.emit(name, &0).await.map(drop).map_err(Into::into) }
    });
    let hops = Filter::event(stage.unique("hop"));
    stage.subscribe(&*far, "relay", hops, Default::default(), relay).await?;
    stage.serve(&*far, "echo", CommandOptions::default(), echo()).await?;
    stage.begin().await?;

    let draft = stage.event("same", &0)?.with_tenant_id(stage.unique("tenant"));
    for bridge in [&near, &far] {
        let options = patient_emit();
        let emits = (0..5_000).map(|_| bridge.emit_message(draft.clone(), &options));
        let sent: Vec<_> = stream::iter(emits).buffer_unordered(100).try_collect().await?;
        for sent in sent {
            ensure!(sent.sender.instance_id == *bridge.instance_id(), "{sent:?}");
        }
    }
    let hop = stage.event("hop", &0)?.with_tenant_id(stage.unique("tenant"));
    near.emit_message(hop, &patient_emit()).await?;
    for _ in 0..100 {
        let call = stage.call("echo", &0)?.with_tenant_id(stage.unique("tenant"));
        near.invoke_command(call, &InvokeOptions::default()).await?;
    }
    // Events, the hop and what it was relayed as, commands and responses.
    watch.at_least(10_000 + 2 + 2 * 100).await.with_context(|| {
        let of = |is: fn(MessageType) -> bool| {
            watch.messages().iter().filter(|message| is(message.message_type())).count()
        };
        let (commands, responses) = (of(|it| it == MessageType::Command), of(MessageType::is_response));
        format!("{commands} commands and {responses} responses came; {:?} {:?}", near.stats(), far.stats())
    })?;

    let ended = unix_millis()?;
    let (mut ids, mut correlation_ids) = (HashSet::new(), HashSet::new());
    for came in watch.messages() {
        let (is_call, is_response) =
            (came.message_type() == MessageType::Command, came.message_type().is_response());
        // A response has the ids of its command.
        ensure!(is_response || ids.insert(came.id.clone()), "the id of {came:?} is not unique");
        ensure!(!is_call || correlation_ids.insert(came.correlation_id.clone()), "{came:?} shares its call");
        ensure!((began..=ended).contains(&came.timestamp), "{came:?} is not between {began} and {ended}");
        let is_from = |bridge: &dyn EventBridge| came.sender.instance_id == *bridge.instance_id();
        let is_relayed = came.event_name.as_ref() == Some(&relayed);
        ensure!(!is_call || is_from(&near), "{came:?} is not from {}", near.instance_id());
        ensure!(!(is_response || is_relayed) || is_from(&far), "{came:?} is not from {}", far.instance_id());
    }
    Ok(())
}

fn unix_millis() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}
