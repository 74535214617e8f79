//! Tenants and names.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use purista_core::{
    Command, CommandDraft, CommandOptions, ErrorKind, EventBridge, EventDraft, Filter, InvokeOptions, Name,
    Payload, ServiceAddress, Subscription,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    case::{Case, Outcome, case},
    fields::{self, CHOSEN, identity, is_as_drafted},
    probe::{Collector, echo, eventually, grows_to, on_command},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] =
    &[case!("IDN-1", no_message_crosses_tenants), case!("IDN-3", names_of_every_length)];

async fn no_message_crosses_tenants(stage: Stage) -> Outcome {
    let (near, far) = try_join(stage.bridge(), stage.bridge()).await?;
    let told = stage.unique("told");
    let teller = on_command(move |context| {
        let told = told.clone();
        async move {
            let tenant = context.message().payload().cloned();
            context.emit(told, &tenant).await?;
            Ok(tenant)
        }
    });
    stage.serve(&*far, "tell", CommandOptions::default(), teller).await?;
    // Names that are easily taken for one another.
    let spellings = ["acme-", "acme_", "Acme-", "acme ", "acme."];
    let mut tenants = Vec::new();
    for number in 0..50 {
        let tenant = stage.unique(&format!("{}{}", spellings[number % 5], number / 5));
        let filter = Filter::any().with_tenant_id(&tenant);
        tenants.push((stage.watch(&*near, &format!("tenant {number}"), filter).await?, tenant));
    }
    stage.begin().await?;

    let mut rng = StdRng::seed_from_u64(stage.seed());
    let mut expected = [0; 50];
    let mut traffic = Vec::new();
    for _ in 0..5_000 {
        let (number, calls) = (rng.random_range(0..50), rng.random_bool(0.25));
        // A call is a command, an event and a response.
        expected[number] += if calls { 3 } else { 1 };
        traffic.push(say_whose(&stage, &near, &tenants[number].1, calls));
    }
    stream::iter(traffic).buffer_unordered(50).try_collect::<()>().await?;
    for ((seen, tenant), expected) in tenants.iter().zip(expected) {
        grows_to(expected, "deliveries", || seen.count()).await.with_context(|| format!("of {tenant}"))?;
    }
    eventually("all handlers are done", || async { Ok(near.stats().in_hand == 0) }).await?;
    for ((seen, tenant), expected) in tenants.iter().zip(expected) {
        ensure!(seen.count() == expected, "{} of {expected} deliveries to {tenant}", seen.count());
        let own = Payload::json(tenant)?;
        for message in seen.messages() {
            ensure!(message.tenant_id.as_ref() == Some(tenant), "{tenant} got {message:?}");
            ensure!(message.payload() == Some(&own), "{tenant} got the content of another: {message:?}");
        }
    }
    Ok(())
}

/// Sends an event or a command of a tenant that tells its name.
async fn say_whose(stage: &Stage, bridge: &Arc<dyn EventBridge>, tenant: &Name, calls: bool) -> Result<()> {
    if calls {
        let call = stage.call("tell", tenant)?.with_tenant_id(tenant);
        let answer = bridge.invoke_command(call, &InvokeOptions::default()).await?;
        ensure!(answer.payload() == Some(&Payload::json(tenant)?), "{tenant} was answered {answer:?}");
    } else {
        let event = stage.event("said", tenant)?.with_tenant_id(tenant);
        bridge.emit_message(event, &patient_emit()).await?;
    }
    Ok(())
}

const LENGTHS: [usize; 8] = [0, 1, 64, 255, 256, 4_096, 65_536, 200 * 1_024];

/// Checks that a name was taken, or that it was refused and may be.
fn taken<R>(result: purista_core::Result<R>, length: usize) -> Result<Option<R>> {
    match result {
        Ok(taken) => {
            ensure!(length > 0, "an empty name was taken");
            Ok(Some(taken))
        }
        Err(error) => {
            ensure!(error.kind() == ErrorKind::InvalidMessage, "{length} bytes: {error:?}");
            ensure!(!(1..=64).contains(&length), "a name of {length} bytes was refused: {error:?}");
            Ok(None)
        }
    }
}

async fn names_of_every_length(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let watch = stage.watch(&*bridge, "watch", Filter::any()).await?;
    let (commands, subscribers) = names_of_registrations(&stage, &*bridge).await?;
    stage.begin().await?;
    let mut drafts = Vec::new();
    for length in LENGTHS {
        let (name, usual) = ("n".repeat(length), identity(&stage, "usual"));
        for field in CHOSEN {
            let wanted = field.with(usual.clone(), &name);
            drafts.push((length, fields::event(&wanted), wanted));
        }
        drafts.push((length, fields::event(&usual).with_trace_id(name.as_str()), usual.clone()));
        drafts.push((length, fields::event(&usual).with_correlation_id(name.as_str()), usual));
    }
    for (number, (length, draft, wanted)) in drafts.into_iter().enumerate() {
        let emitted = bridge.emit_message(draft.clone(), &patient_emit()).await;
        if let Some(sent) = taken(emitted, length)? {
            let came = watch.message(sent.message_type(), &sent.id).await?;
            ensure!(wanted.matches(&came), "{wanted:?} came as {came:?}");
            is_as_drafted(draft.stamp(bridge.instance_id()), &came)?;
        }
        stage.emit(&*bridge, "alive", &number).await?;
        watch.sentinel(&number.to_string()).await.context("after a refusal")?;
    }
    for (length, call, served) in commands {
        let called = bridge.invoke_command(call, &InvokeOptions::default()).await;
        if served {
            called.with_context(|| format!("{length} bytes"))?;
        } else {
            let error = called.err().context("a name that cannot be served was called")?;
            ensure!(error.bridge_kind() == Some(ErrorKind::InvalidMessage), "{length} bytes: {error:?}");
        }
    }
    for (event, collector) in subscribers {
        let draft = EventDraft::event(stage.address("emitter"), &event);
        bridge.emit_message(draft, &patient_emit()).await?;
        collector.at_least(1).await?;
    }
    Ok(())
}

/// Registers commands and subscribers with names of each length. Returns calls of all commands, with the length and
/// whether it is served, and the events of those subscribers that were taken.
async fn names_of_registrations(
    stage: &Stage,
    bridge: &dyn EventBridge,
) -> Result<(Vec<(usize, CommandDraft, bool)>, Vec<(Name, Arc<Collector>)>)> {
    let (mut commands, mut subscribers) = (Vec::new(), Vec::new());
    for length in LENGTHS {
        let (name, service) = ("n".repeat(length), stage.unique("Service"));
        let addresses = [
            ServiceAddress::new(name.as_str(), service.clone(), "target"),
            ServiceAddress::new(service.clone(), name.as_str(), "target"),
            ServiceAddress::new(service, "1", name.as_str()),
        ];
        for address in addresses {
            let routes = stage.deployment().routes().await?;
            let call = CommandDraft::new(stage.address("caller"), &address);
            let registered = bridge.register_command(Command::new(address), echo()).await;
            let served = taken(registered, length)?.is_some();
            let is_unchanged = served || stage.deployment().routes().await? == routes;
            ensure!(is_unchanged, "a refused command left something");
            commands.push((length, call, served));
        }
        let subscriber = ServiceAddress::new(stage.unique("Service"), "1", name.as_str());
        let (event, collector) = (stage.unique(&format!("to{length}")), Collector::new());
        let subscription = Subscription::new(subscriber, Filter::event(&event));
        if taken(bridge.register_subscription(subscription, collector.handler()).await, length)?.is_some() {
            subscribers.push((event, collector));
        }
    }
    Ok((commands, subscribers))
}
