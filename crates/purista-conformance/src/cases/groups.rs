//! Who gets a message when there are several to choose from.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use purista_core::{
    Capability, CommandOptions, EventBridge, Filter, MessageType, Payload, ServiceAddress, Sharing,
    Subscription, SubscriptionOptions,
};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, grows_to, on_command},
    stage::Stage,
};

pub(super) const CASES: &[Case] = &[
    case!("GRP-1", instances_share, Capability::SharedSubscriptions, else refuses_to_share),
    case!("GRP-2", each_instance_gets_a_broadcast, Capability::BroadcastSubscriptions, else refuses_to_broadcast),
    case!("GRP-3", subscribers_do_not_share),
    case!("GRP-4", overlapping_subscriptions),
    case!("GRP-7", one_instance_executes_a_command),
];

type Instances = Vec<(Arc<dyn EventBridge>, Arc<Collector>)>;

/// Starts three instances of one subscriber to the event `numbers`.
async fn three_instances(stage: &Stage, sharing: Sharing) -> Result<Instances> {
    let instances = try_join_all((0..3).map(|_| async {
        let (bridge, collector) = (stage.bridge().await?, Collector::new());
        let options = SubscriptionOptions::default().with_sharing(sharing);
        let filter = Filter::event(stage.unique("numbers"));
        stage.subscribe(&*bridge, "instance", filter, options, collector.handler()).await?;
        Ok((bridge, collector))
    }))
    .await;
    stage.begin().await?;
    instances
}

/// Returns the numbers that came, in ascending order.
fn numbers<'a>(collectors: impl IntoIterator<Item = &'a Arc<Collector>>) -> Vec<usize> {
    let payloads = collectors.into_iter().flat_map(|collector| collector.payloads());
    let mut numbers: Vec<_> = payloads.filter_map(|payload| payload.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

async fn instances_share(stage: Stage) -> Outcome {
    let instances = three_instances(&stage, Sharing::Shared).await?;
    let (bridges, seen): (Vec<_>, Vec<_>) = instances.into_iter().unzip();
    let came = || seen.iter().map(|seen| seen.count()).sum::<usize>();
    // Where an event stays with its bridge, each emits some.
    let emitters = if stage.deployment().events_cross_bridges() { 1 } else { bridges.len() };
    // The second, small batch shows that the first is through.
    for batch in [0..3_000, 3_000..3_300] {
        let (wanted, part) = (batch.end, batch.len() / emitters);
        for (emitter, begin) in bridges.iter().zip(batch.step_by(part)) {
            stage.emit_each(&**emitter, "numbers", begin..begin + part).await?;
        }
        grows_to(wanted, "deliveries", came).await?;
    }
    ensure!(numbers(&seen).into_iter().eq(0..3_300), "not each message came once: {} deliveries", came());
    for (bridge, seen) in bridges.iter().zip(&seen) {
        ensure!(seen.count() >= 330, "{} got {} of 3,300", bridge.instance_id(), seen.count());
    }
    Ok(())
}

async fn refuses_to_share(stage: Stage) -> Outcome {
    let options = SubscriptionOptions::default().with_sharing(Sharing::Shared);
    stage.refuses(options, Capability::SharedSubscriptions).await
}

async fn each_instance_gets_a_broadcast(stage: Stage) -> Outcome {
    let instances = three_instances(&stage, Sharing::Broadcast).await?;
    for batch in [0..1_000, 1_000..1_100] {
        let wanted = batch.end;
        stage.emit_each(&*instances[0].0, "numbers", batch).await?;
        for (_, seen) in &instances {
            seen.at_least(wanted).await?;
        }
    }
    for (bridge, seen) in &instances {
        ensure!(numbers([seen]).into_iter().eq(0..1_100), "{} got {}", bridge.instance_id(), seen.count());
    }
    Ok(())
}

async fn refuses_to_broadcast(stage: Stage) -> Outcome {
    let options = SubscriptionOptions::default().with_sharing(Sharing::Broadcast);
    stage.refuses(options, Capability::BroadcastSubscriptions).await
}

async fn subscribers_do_not_share(stage: Stage) -> Outcome {
    let name = stage.unique("Service");
    // The last two have one name if their parts are joined carelessly.
    let subscribers = [
        ServiceAddress::new(&name, "1", "on"),
        ServiceAddress::new(&name, "1", "off"),
        ServiceAddress::new(&name, "2", "on"),
        ServiceAddress::new(stage.unique("Other"), "1", "on"),
        ServiceAddress::new(format!("{name}-1"), "1", "on"),
        ServiceAddress::new(&name, "1-1", "on"),
    ];
    let mut seen = Vec::new();
    for subscriber in subscribers {
        let (bridge, collector) = (stage.bridge().await?, Collector::new());
        let subscription = Subscription::new(&subscriber, Filter::event(stage.unique("numbers")));
        bridge.register_subscription(subscription, collector.handler()).await?;
        seen.push((bridge, subscriber, collector));
    }
    stage.begin().await?;
    for batch in [0..1_000, 1_000..1_100] {
        let wanted = batch.end;
        stage.emit_each(&*seen[0].0, "numbers", batch).await?;
        for (_, _, seen) in &seen {
            seen.at_least(wanted).await?;
        }
    }
    for (_, subscriber, seen) in &seen {
        ensure!(numbers([seen]).into_iter().eq(0..1_100), "{subscriber} got {} of 1,100", seen.count());
    }
    Ok(())
}

async fn overlapping_subscriptions(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    let given = bridge.capabilities();
    let options = |sharing, capability| {
        let best = SubscriptionOptions::default();
        if given.has(capability) { best.with_sharing(sharing) } else { best }
    };
    let shared = || options(Sharing::Shared, Capability::SharedSubscriptions);
    let broadcast = || options(Sharing::Broadcast, Capability::BroadcastSubscriptions);
    let event = Filter::event(stage.unique("numbers"));
    let emitter = stage.address("emitter");
    let subscriptions = [
        ("shared", event.clone(), shared()),
        ("broadcast", event.clone(), broadcast()),
        ("shared again", event.clone(), shared()),
        ("broadcast again", event.clone(), broadcast()),
        ("narrower", event.with_message_type(MessageType::CustomMessage).with_sender(&emitter), shared()),
        ("wider", Filter::any().with_sender(&emitter), shared()),
    ];
    let mut seen = Vec::new();
    for (target, filter, options) in subscriptions {
        let collector = Collector::new();
        stage.subscribe(&*bridge, target, filter, options, collector.handler()).await?;
        seen.push((target, collector));
    }
    stage.begin().await?;
    for batch in [0..500, 500..550] {
        let wanted = batch.end;
        stage.emit_each(&*bridge, "numbers", batch).await?;
        for (_, seen) in &seen {
            seen.at_least(wanted).await?;
        }
    }
    for (target, seen) in &seen {
        ensure!(numbers([seen]).into_iter().eq(0..550), "{target} got {} of 550", seen.count());
    }
    Ok(())
}

async fn one_instance_executes_a_command(stage: Stage) -> Outcome {
    let caller = stage.bridge().await?;
    let mut executed = Vec::new();
    let instances = try_join_all([stage.bridge(), stage.bridge()]).await?;
    for instance in &instances {
        let collector = Collector::new();
        let log = Arc::clone(&collector);
        let handler = on_command(move |context| {
            log.record(&context);
            async move { Ok(context.message().payload().cloned()) }
        });
        stage.serve(&**instance, "count", CommandOptions::default(), handler).await?;
        executed.push(collector);
    }
    stage.begin().await?;
    let calls = (0..1_000).map(|number| {
        let (stage, caller) = (&stage, &caller);
        async move {
            let response = stage.invoke(&**caller, "count", &number).await?;
            ensure!(response.payload() == Some(&Payload::json(&number)?), "call {number} got {response:?}");
            Ok(())
        }
    });
    stream::iter(calls).buffer_unordered(100).try_collect::<()>().await?;
    ensure!(numbers(&executed).into_iter().eq(0..1_000), "{} executions", numbers(&executed).len());
    for (instance, executed) in instances.iter().zip(&executed) {
        ensure!(executed.count() > 0, "{} executed nothing", instance.instance_id());
    }
    Ok(())
}
