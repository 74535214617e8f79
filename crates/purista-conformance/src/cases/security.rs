//! Whoever means harm.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use purista_core::{
    Body, Command, CommandDraft, CommandOptions, ErrorKind, EventBridge, Filter, Id, InvokeOptions, Message,
    MessageType, PartyFilter, Payload, Receiver, ServiceAddress, Subscription, SubscriptionOptions,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    case::{Case, Outcome, case},
    fields::{self, CHOSEN, Field, exact, identity, is_as_drafted},
    probe::{Collector, Latch, echo, eventually, on_command},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("SEC-3", hostile_names_reach_their_address_only),
    case!("SEC-5", malformed_input_is_survived),
    case!("SEC-6", a_forged_response_is_not_accepted),
];

/// What has a meaning in some broker's names, headers or logs, apart by `|`.
const HOSTILE: &str = "+|#|*|>|/|.|..|...|//|a/|/a|a.|.a|a..b|a.*.b|a.>|a/+/b|a/#|-|_|~|=|%|%2F|%2f|%00|%25|\
    $share|$share/a/#|$SYS|$SYS/#|$JS.API.>|_INBOX.>|$queue|amq.direct|amq.*|none|null|undefined|{}|<>|\"|'|\\|\
    \u{20}|\u{20}\u{20}|\t|\r\n|a\r\nb: c|\0|a\0b|\u{7f}|\u{80}|\u{200b}|\u{feff}|\u{202e}|\u{2024}|\u{ff0f}|\u{ff0b}|日本";

/// Makes 300 names: each of the hostile texts alone, then several in a row.
fn hostile_names(rng: &mut StdRng) -> Vec<String> {
    let texts: Vec<_> = HOSTILE.split('|').collect();
    let mut names: Vec<String> = texts.iter().map(ToString::to_string).collect();
    while names.len() < 300 {
        let several = (0..rng.random_range(2..6)).map(|_| texts[rng.random_range(0..texts.len())]);
        let name: String = several.collect();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns what was done with a hostile name, or `None` if it was refused as it may be.
fn unless_refused<R>(result: purista_core::Result<R>, name: &str) -> Result<Option<R>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::InvalidMessage => Ok(None),
        Err(error) => Err(error).with_context(|| format!("with {name:?}")),
    }
}

async fn hostile_names_reach_their_address_only(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let usual = identity(&stage, "usual");
    let everything = stage.watch(&*bridge, "everything", Filter::any()).await?;
    let victim = stage.watch(&*bridge, "victim", usual.clone()).await?;
    let names = hostile_names(&mut StdRng::seed_from_u64(stage.seed()));
    // Each name goes into each field of a message; into one of a filter, in each run another one.
    let turn = usize::try_from(stage.seed() % 10)?;
    let mut subscribers = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (field, collector) = (CHOSEN[(number + turn) % CHOSEN.len()], Collector::new());
        let subscriber = ServiceAddress::new(stage.unique("Service"), "1", name.as_str());
        let subscription = Subscription::new(subscriber, field.with(usual.clone(), name))
            .with_options(SubscriptionOptions::default().with_max_concurrency(1));
        let registered = bridge.register_subscription(subscription, collector.handler()).await;
        if unless_refused(registered, name)?.is_some() {
            subscribers.push((name, field, collector));
        }
    }
    let commands = serve_hostile_commands(&stage, &*bridge, &names, turn).await?;
    stage.begin().await?;

    let draft = |field: Field, name: &str, content: &str| {
        let draft = fields::event(&field.with(usual.clone(), name)).with_payload(Payload::json(content)?);
        anyhow::Ok(draft.with_trace_id(name).with_correlation_id(name))
    };
    for name in &names {
        let in_fields = CHOSEN.map(async |field| {
            let draft = draft(field, name, "first")?;
            let emitted = bridge.emit_message(draft.clone(), &patient_emit()).await;
            if let Some(sent) = unless_refused(emitted, name)? {
                let came = everything.message(sent.message_type(), &sent.id).await?;
                is_as_drafted(draft.stamp(bridge.instance_id()), &came)?;
            }
            anyhow::Ok(())
        });
        try_join_all(in_fields).await?;
    }
    for (name, field, seen) in subscribers {
        bridge.emit_message(draft(field, name, "sentinel")?, &patient_emit()).await?;
        seen.sentinel("\"sentinel\"").await.with_context(|| format!("{name:?} as {field:?}"))?;
        seen.at_least(2).await?;
        let own = seen.messages().iter().all(|message| field.get(&exact(message)).as_ref() == Some(name));
        ensure!(own && seen.count() == 2, "{name:?} as {field:?} got {:?}", seen.messages());
    }
    let sentinel = fields::event(&usual).with_payload(Payload::json("sentinel")?);
    bridge.emit_message(sentinel, &patient_emit()).await?;
    victim.sentinel("\"sentinel\"").await?;
    ensure!(victim.count() == 1, "the victim got {:?}", victim.messages());
    call_hostile_commands(&stage, &*bridge, commands).await
}

/// Returns the addresses, and whether they were taken.
async fn serve_hostile_commands(
    stage: &Stage,
    bridge: &dyn EventBridge,
    names: &[String],
    turn: usize,
) -> Result<Vec<(bool, ServiceAddress)>> {
    let (service, mut addresses) = (stage.unique("Service"), Vec::new());
    for (number, name) in names.iter().enumerate() {
        let address = match (number + turn) % 3 {
            0 => ServiceAddress::new(name.as_str(), &service, "hostile"),
            1 => ServiceAddress::new(&service, name.as_str(), "hostile"),
            _ => ServiceAddress::new(&service, "1", name.as_str()),
        };
        let answer = on_command(move |_| async move { Ok(Some(Payload::json(&number)?)) });
        let served = bridge.register_command(Command::new(&address), answer).await;
        addresses.push((unless_refused(served, name)?.is_some(), address));
    }
    Ok(addresses)
}

async fn call_hostile_commands(
    stage: &Stage,
    bridge: &dyn EventBridge,
    commands: Vec<(bool, ServiceAddress)>,
) -> Outcome {
    for (number, (served, address)) in commands.into_iter().enumerate() {
        let call = CommandDraft::new(stage.address("caller"), &address);
        match bridge.invoke_command(call, &InvokeOptions::default()).await {
            Ok(answer) if served => {
                ensure!(
                    answer.payload() == Some(&Payload::json(&number)?),
                    "{address:?} was answered {answer:?}"
                );
            }
            Err(error) if !served && error.bridge_kind() == Some(ErrorKind::InvalidMessage) => {}
            other => anyhow::bail!("{address:?} is served: {served}; its call got {other:?}"),
        }
    }
    Ok(())
}

async fn malformed_input_is_survived(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let seen = stage.watch(&*bridge, "watch", Filter::event(stage.unique("good"))).await?;
    stage.begin().await?;
    let event = fields::event(&identity(&stage, "event")).with_event_name(stage.unique("good"));
    let call = stage.call("echo", &0)?;
    let good = [
        event.with_payload(Payload::json("good")?).stamp(bridge.instance_id()),
        call.stamp(bridge.instance_id()),
    ];
    let mut rng = StdRng::seed_from_u64(stage.seed());
    let mut corpus = Vec::new();
    for message in &good {
        corpus.extend(malformed(message, &mut rng)?);
    }
    corpus.extend(nonsense().into_iter().map(Bytes::from));
    // By chance, a change may do no harm.
    corpus.retain(|bytes| Message::decode(bytes.clone()).is_err());
    ensure!(corpus.len() > 300, "{} malformed messages", corpus.len());

    let counted = bridge.stats().malformed;
    for (number, bytes) in corpus.iter().enumerate() {
        stage.deployment().inject(bytes.clone()).await?;
        stage.emit(&*bridge, "good", &number).await?;
        let alive = seen.sentinel(&number.to_string()).await;
        alive.with_context(|| {
            format!("after {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(500)]))
        })?;
        if number % 50 == 0 {
            stage.invoke(&*bridge, "echo", &number).await?;
        }
    }
    ensure!(seen.count() == corpus.len(), "{} of {} good messages", seen.count(), corpus.len());
    let all = counted + u64::try_from(corpus.len())?;
    eventually("all of it is counted", || async { Ok(bridge.stats().malformed >= all) })
        .await
        .with_context(|| format!("{} of {all}", bridge.stats().malformed))
}

/// Cuts a message, and changes its bytes and the types of its fields.
fn malformed(message: &Message, rng: &mut StdRng) -> Result<Vec<Bytes>> {
    let good = message.encode();
    let mut corpus: Vec<Bytes> = (0..good.len()).step_by(9).map(|end| good.slice(..end)).collect();
    for _ in 0..100 {
        let mut bytes = good.to_vec();
        let position = rng.random_range(0..bytes.len());
        bytes[position] = rng.random();
        corpus.push(bytes.into());
    }
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80"] {
        let middle = good.len() / 2;
        corpus.push([&good[..middle], bad, &good[middle..]].concat().into());
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&good)?;
    let wrong = serde_json::json!([7, -1.5, true, null, [], ["a"], {}, { "a": 1 }, "text"]);
    for key in object.keys() {
        let mut without = object.clone();
        without.remove(key);
        corpus.push(serde_json::to_vec(&without)?.into());
        for value in wrong.as_array().into_iter().flatten() {
            let mut changed = object.clone();
            changed.insert(key.clone(), value.clone());
            corpus.push(serde_json::to_vec(&changed)?.into());
        }
        // Named twice, by which layers may disagree.
        let twice = format!("{{{}:\"text\",", serde_json::to_string(key)?);
        corpus.push([twice.as_bytes(), &good[1..]].concat().into());
    }
    Ok(corpus)
}

/// What was never a message.
fn nonsense() -> Vec<Vec<u8>> {
    let many_fields: String = (0..10_000).map(|number| format!("\"field{number}\":{number},")).collect();
    let mut nonsense = vec![
        vec![],
        vec![0; 1_000],
        vec![0xff; 1_000],
        (0..=255).cycle().take(100_000).collect(),
        vec![b'['; 100_000],
        "{\"a\":".repeat(100_000).into_bytes(),
        vec![b'x'; 256 * 1_024],
        format!("\"{}\"", "x".repeat(256 * 1_024)).into_bytes(),
        format!("{{{many_fields}\"messageType\":\"customMessage\"}}").into_bytes(),
        format!("{{\"messageType\":\"{}\"}}", "x".repeat(100_000)).into_bytes(),
        format!("{{\"messageType\":{}1}}", "1".repeat(100_000)).into_bytes(),
    ];
    let texts = [
        "null",
        "0",
        "[]",
        "{}",
        "\"\"",
        "true",
        "NaN",
        "{} {}",
        "\u{feff}{}",
        "<xml/>",
        "GET / HTTP/1.1\r\n\r\n",
    ];
    nonsense.extend(texts.map(|text| text.as_bytes().to_vec()));
    nonsense
}

async fn a_forged_response_is_not_accepted(stage: Stage) -> Outcome {
    let (caller, service, attacker) = (stage.bridge().await?, stage.bridge().await?, stage.bridge().await?);
    let latch = Latch::new();
    let vault = latch.command(&Collector::new());
    stage.serve(&*service, "vault", CommandOptions::default(), vault).await?;
    let commands = Filter::message_type(MessageType::Command).with_receiver(stage.address("vault"));
    let spied = stage.watch(&*attacker, "spy", commands).await?;
    let to_caller = Filter::any().with_receiver(PartyFilter::any().with_instance_id(caller.instance_id()));
    let overheard = stage.watch(&*attacker, "overhears", to_caller).await?;
    stage.begin().await?;

    let receiver = Receiver::new(stage.address("vault")).with_instance_id(service.instance_id());
    let draft = CommandDraft::new(stage.address("caller"), receiver)
        .with_tenant_id(stage.unique("tenant"))
        .with_payload(Payload::json("the truth")?);
    let call = tokio::spawn({
        let caller = Arc::clone(&caller);
        async move { caller.invoke_command(draft, &InvokeOptions::default()).await }
    });
    latch.reached(1).await?;
    spied.at_least(1).await?;
    let command = spied.messages().pop().context("no command")?;

    let forged = forgeries(&stage, &command, &service)?;
    let before = caller.stats().forged_responses;
    for response in &forged {
        stage.deployment().inject(response.encode()).await?;
    }
    let all = before + u64::try_from(forged.len())?;
    eventually("each forgery is counted", || async { Ok(caller.stats().forged_responses >= all) }).await?;
    // Something that is no response at all, though the rest of it is right.
    let mut no_response = lie(&command, &service)?;
    no_response.body = Body::CustomMessage(no_response.payload().cloned());
    no_response.id = Id::random();
    stage.deployment().inject(no_response.encode()).await?;
    overheard.message(MessageType::CustomMessage, &no_response.id).await?;
    ensure!(!call.is_finished(), "a forgery ended the call");

    latch.open();
    let answer = call.await??;
    ensure!(answer.payload() == Some(&Payload::json("the truth")?), "the caller got {answer:?}");
    let stats = caller.stats();
    ensure!(stats.answered == 1 && stats.forged_responses == all && stats.late_responses == 0, "{stats:?}");
    Ok(())
}

/// Makes a response that is right but for what it says.
fn lie(command: &Message, service: &dyn EventBridge) -> Result<Message> {
    let mut response = command.unavailable(service.instance_id());
    response.body = Body::CommandSuccessResponse(Some(Payload::json("a lie")?));
    Ok(response)
}

/// Makes responses of whoever has seen a command and is not its service.
fn forgeries(stage: &Stage, command: &Message, service: &dyn EventBridge) -> Result<Vec<Message>> {
    let changes: [&dyn Fn(&mut Message); 6] = [
        &|response| response.sender.address.service_name = stage.unique("Attacker"),
        &|response| response.sender.address.service_version = "2".into(),
        &|response| response.sender.address.service_target = "attacker".into(),
        &|response| response.tenant_id = Some(stage.unique("foreigner")),
        &|response| response.tenant_id = None,
        // An error would do as well.
        &|response| {
            *response = command.unavailable(service.instance_id());
            response.tenant_id = None;
        },
    ];
    let forge = |change: &dyn Fn(&mut Message)| {
        let mut response = lie(command, service)?;
        change(&mut response);
        Ok(response)
    };
    changes.into_iter().map(forge).collect()
}
