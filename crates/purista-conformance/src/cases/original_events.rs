//! Events between ours and the TypeScript original.

use anyhow::{Result, ensure};
use purista_core::{
    Capability, Command, EventBridgeExt as _, EventDraft, Filter, Name, Payload, ServiceAddress,
    Subscription, SubscriptionOptions,
};
use serde_json::{Value, json};

use super::original_calls::{came, original, send};
use crate::{
    case::{Case, Outcome, case},
    original::Part,
    probe::{Collector, echo, grows_to},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("WIR-4", one_subscriber_of_both, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-5", names_like_markers, Capability::WireCompatible, else "the wire is our own"),
    case!("WIR-9", names_of_other_letters, Capability::WireCompatible, else "the wire is our own"),
];

const EVENTS: usize = 40;

async fn one_subscriber_of_both(stage: Stage) -> Outcome {
    let (service, emitter) = (stage.bridge().await?, stage.bridge().await?);
    let (seen, happened) = (Collector::new(), stage.unique("happened"));
    let filter = Filter::event(&happened);
    stage.subscribe(&*service, "watch", filter, SubscriptionOptions::default(), seen.handler()).await?;
    stage.begin().await?;
    let part =
        Part::new(stage.unique("original").to_string()).subscribing(stage.address("watch"), happened.clone());
    let _peer = original(&stage, &part).await?;
    let emitting = Part::new(stage.unique("emitter").to_string());
    let foreign = original(&stage, &emitting).await?;

    for number in 0..EVENTS {
        stage.emit(&*emitter, "happened", &(2 * number)).await?;
        let event = emitting.event(&stage.address("original"), &happened, json!(2 * number + 1));
        send(&*foreign, &event).await?;
    }
    let theirs = &part.subscribes[0].seen;
    let number = |text: &str| text.parse().unwrap_or(usize::MAX);
    let of_ours = || -> Vec<usize> { seen.payloads().iter().map(|text| number(text)).collect() };
    let of_theirs =
        || -> Vec<usize> { theirs.all().iter().map(|body| number(&body["payload"].to_string())).collect() };
    let all = Vec::from_iter(0..2 * EVENTS);
    if stage.deployment().shares_subscriptions_with_original() {
        grows_to(all.len(), "messages", || seen.count() + theirs.count()).await?;
        let mut both = of_ours();
        both.extend(of_theirs());
        both.sort_unstable();
        ensure!(both == all, "ours got {:?}, the original {:?}", of_ours(), of_theirs());
        return Ok(());
    }
    for got in [&of_ours as &(dyn Fn() -> Vec<usize> + Sync), &of_theirs] {
        grows_to(all.len(), "messages of one language", || got().len()).await?;
        let mut got = got();
        got.sort_unstable();
        ensure!(got == all, "one language got {got:?}");
    }
    Ok(())
}

/// What stands for an absent part on some broker, or is easily taken for that, or for an escape.
const LIKE_MARKERS: [&str; 5] = ["none", "empty", "~", "__none__", "__empty__"];

async fn names_like_markers(stage: Stage) -> Outcome {
    // The original lets two subscriptions share that are the same once their names are converted.
    let (names, alike) = LIKE_MARKERS.split_at(3);
    events_meet(&stage, "markers", names).await?;
    events_meet(&stage, "alike", alike).await?;
    tenants_meet(&stage).await?;
    commands_meet(&stage, names).await
}

/// Names that brokers, or the conversion of names, may not take as they are.
const OTHER_LETTERS: [&str; 6] = ["user created", "größe", "日本語", "order/shipped", "mail.sent", "Ж"];

async fn names_of_other_letters(stage: Stage) -> Outcome {
    events_meet(&stage, "letters", &OTHER_LETTERS).await
}

/// Events with these names go from ours to the original, and from the original to ours.
async fn events_meet(stage: &Stage, what: &str, names: &[&str]) -> Result<()> {
    let (service, emitter) = (stage.bridge().await?, stage.bridge().await?);
    let mut part = Part::new(stage.unique("original").to_string());
    let mut watched = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (seen, filter) = (Collector::new(), Filter::event(*name));
        let subscription = Subscription::new(stage.address(&format!("{what}Ours{number}")), filter);
        service.register_subscription(subscription, seen.handler()).await?;
        watched.push(seen);
        part = part.subscribing(stage.address(&format!("{what}Theirs{number}")), Name::from(*name));
    }
    stage.begin().await?;
    let peer = original(stage, &part).await?;
    for (number, name) in names.iter().enumerate() {
        let draft = EventDraft::event(stage.address("emitter"), *name).with_payload(Payload::json("ours")?);
        emitter.emit_message(draft, &patient_emit()).await?;
        send(&*peer, &part.event(&stage.address("original"), name, json!("theirs"))).await?;
        let (ours, theirs) = (&watched[number], &part.subscribes[number].seen);
        for wanted in ["ours", "theirs"] {
            ours.sentinel(&json!(wanted).to_string()).await?;
            let is_it = |body: &Value| body["payload"] == wanted && body["eventName"] == *name;
            theirs.find(&format!("the event {name:?} of {wanted}"), is_it).await?;
        }
        let own = ours.messages().iter().all(|message| message.event_name.as_deref() == Some(*name));
        ensure!(own && ours.count() == 2, "{name:?} got {:?}", ours.messages());
    }
    Ok(())
}

/// Events of tenants with such names come from the original, and to it.
async fn tenants_meet(stage: &Stage) -> Result<()> {
    let (service, seen) = (stage.bridge().await?, Collector::new());
    let happened = stage.unique("happened");
    let filter = Filter::event(&happened).with_tenant_id("none");
    stage.subscribe(&*service, "tenant", filter, SubscriptionOptions::default(), seen.handler()).await?;
    stage.begin().await?;
    let emitting = Part::new(stage.unique("tenants").to_string());
    let peer = original(stage, &emitting).await?;
    for (number, tenant) in [Some("empty"), None, Some("none")].into_iter().enumerate() {
        let mut event = emitting.event(&stage.address("original"), &happened, json!(number));
        if let Some(tenant) = tenant {
            event["tenantId"] = json!(tenant);
        }
        send(&*peer, &event).await?;
    }
    seen.sentinel("2").await?;
    ensure!(seen.count() == 1, "the tenant got {:?}", seen.messages());
    Ok(())
}

/// Commands of these names are called by ours and served by the original, and the other way round.
async fn commands_meet(stage: &Stage, names: &[&str]) -> Result<()> {
    let (service, caller) = (stage.bridge().await?, stage.bridge().await?);
    let named = |whose: &str, name: &str| ServiceAddress::new(stage.unique(whose), "1", name);
    let mut part = Part::new(stage.unique("serves").to_string());
    for name in names {
        service.register_command(Command::new(named("Ours", name)), echo()).await?;
        part = part.serving(named("Theirs", name));
    }
    stage.begin().await?;
    let peer = original(stage, &part).await?;
    for (number, name) in names.iter().enumerate() {
        let answer: usize = caller.call(named("Theirs", name)).tenant("none").invoke(&number).await?;
        ensure!(answer == number, "the original answered {answer} as {name:?}");
        came(&part.serves[number].seen, 1).await?;
        let command = part.command(&stage.address("caller"), named("Ours", name), json!(number));
        send(&*peer, &command).await?;
        let answer = part.answers.answer_to(&command).await?;
        ensure!(answer["payload"] == number, "ours answered {answer} as {name:?}");
    }
    Ok(())
}
