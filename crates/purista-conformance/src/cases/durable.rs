//! What is kept while nobody is there to handle it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridge, Filter, Message, Registration, SubscriptionOptions,
};
use tokio::time::Instant;

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, Latch, bookkeeper, echo, eventually, grows_to, on_event},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[
    case!("DUR-1", nothing_is_missed, Capability::DurableSubscriptions, else refuses_durable_subscriptions),
    case!("DUR-6", emit_waits_for_the_broker, Capability::BrokerConfirm, else "emit returns when the event is on its way"),
    case!("DUR-7", nobody_gets_it, Capability::MustRoute, else refuses_must_route),
    case!("DUR-8", commands_wait_for_their_service, Capability::DurableCommands, else refuses_durable_commands),
    case!("DUR-9", durable_is_as_asked, Capability::DurableSubscriptions, else refuses_only_durable_ones),
];

/// Subscribes as `target` to `event` with the books as handler.
async fn keep_books(
    stage: &Stage,
    bridge: &dyn EventBridge,
    ledger: &Arc<Ledger>,
    options: SubscriptionOptions,
) -> purista_core::Result<Registration> {
    let filter = Filter::event(stage.unique("event"));
    stage.subscribe(bridge, "books", filter, options, bookkeeper(ledger)).await
}

async fn nothing_is_missed(stage: Stage) -> Outcome {
    const EVENTS: usize = 5_000;
    let emitter = stage.bridge().await?;
    stage.begin().await?;
    let (ledger, durable) = (Arc::new(Ledger::default()), SubscriptionOptions::default().with_durable(true));
    let service = stage.new_bridge()?;
    ensure!(keep_books(&stage, &*service, &ledger, durable.clone()).await?.granted().durable, "not durable");
    service.start().await?;
    stage.emit_each(&*emitter, "event", 0..1).await?;
    grows_to(1, "events", || ledger.handled_count()).await?;
    let report = service.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");

    stage.emit_each(&*emitter, "event", 1..EVENTS).await?;
    let service = stage.new_bridge()?;
    keep_books(&stage, &*service, &ledger, durable).await?;
    service.start().await?;
    grows_to(EVENTS, "events", || ledger.handled_count()).await?;
    stage.emit_each(&*emitter, "event", EVENTS..EVENTS + 1).await?;
    grows_to(EVENTS + 1, "events", || ledger.handled_count()).await?;
    (0..=EVENTS as u64).for_each(|number| ledger.ok(number));
    ensure!(ledger.balance().is_exactly_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn emit_waits_for_the_broker(stage: Stage) -> Outcome {
    if stage.deployment().refuses_when_full() {
        emit_waits_for_room(stage).await
    } else {
        emit_waits_for_a_silent_broker(stage).await
    }
}

/// Looks that an emit did not return before its time was over, and why.
fn is_refused_in_time(
    result: purista_core::Result<Arc<Message>>,
    took: Duration,
    limit: Duration,
) -> Outcome {
    let error = result.err().context("emit returned before the broker had the event")?;
    ensure!(matches!(error.kind(), ErrorKind::Backpressure | ErrorKind::Timeout), "{error:?}");
    ensure!(took >= limit, "it waited {took:?} of {limit:?} for the broker");
    Ok(())
}

async fn emit_waits_for_room(mut stage: Stage) -> Outcome {
    const PLACES: u64 = 8;
    const LIMIT: Duration = Duration::from_secs(1);
    stage.redeploy(DeploymentOptions { queue_capacity: Some(8), ..DeploymentOptions::default() }).await?;
    let bridge = stage.new_bridge()?;
    let (ledger, latch) = (Arc::new(Ledger::default()), Latch::new());
    let (held, books) = (Arc::clone(&latch), bookkeeper(&ledger));
    let handler = on_event(move |context| {
        let (held, books) = (Arc::clone(&held), Arc::clone(&books));
        async move {
            held.pass().await;
            books.handle(context).await
        }
    });
    let options = SubscriptionOptions::default().with_max_concurrency(1);
    stage.subscribe(&*bridge, "held", Filter::event(stage.unique("event")), options, handler).await?;
    let others = stage.collect(&*bridge, "others", "other event").await?;
    bridge.start().await?;

    // One is in hand and the places are taken; the next one fails when its time is over.
    let mut number = 0;
    let (refused, took) = loop {
        ensure!(number <= 2 * PLACES, "the broker took {number} events for {PLACES} places");
        let began = Instant::now();
        let limit = if number < PLACES { PATIENCE } else { LIMIT };
        match stage.emit_within(&*bridge, "event", &number, limit).await {
            Ok(_) => ledger.ok(number),
            refused => break (refused, began.elapsed()),
        }
        number += 1;
    };
    ledger.unknown(number);
    is_refused_in_time(refused, took, LIMIT)?;

    // One with more time waits on while others come through, until there is room.
    let waiting = tokio::spawn({
        let (stage, bridge, number) = (stage.clone(), Arc::clone(&bridge), number + 1);
        async move { stage.emit_within(&*bridge, "event", &number, 2 * PATIENCE).await }
    });
    stage.emit_each(&*bridge, "other event", 0..100).await?;
    others.at_least(100).await?;
    ensure!(!waiting.is_finished(), "emit returned before there was room: {:?}", waiting.await);
    latch.open();
    waiting.await?.context("emit when there is room")?;
    ledger.ok(number + 1);
    eventually("nothing is lost", || async { Ok(ledger.balance().lost.is_empty()) }).await?;
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

/// Where no queue is ever full, the broker says nothing for a while.
async fn emit_waits_for_a_silent_broker(mut stage: Stage) -> Outcome {
    const EVENTS: u64 = 8;
    const LIMIT: Duration = Duration::from_millis(200);
    stage.own_broker(DeploymentOptions::default()).await?;
    let (bridge, ledger) = (stage.new_bridge()?, Arc::new(Ledger::default()));
    keep_books(&stage, &*bridge, &ledger, SubscriptionOptions::default()).await?;
    bridge.start().await?;
    for number in 0..EVENTS {
        stage.emit_within(&*bridge, "event", &number, PATIENCE).await?;
        ledger.ok(number);
    }

    let broker = stage.broker()?;
    broker.break_network(NetworkFault::Silence);
    let waiting = tokio::spawn({
        let (stage, bridge) = (stage.clone(), Arc::clone(&bridge));
        async move { stage.emit_within(&*bridge, "event", &EVENTS, 2 * PATIENCE).await }
    });
    for number in EVENTS + 1..2 * EVENTS {
        ledger.unknown(number);
        let began = Instant::now();
        let refused = stage.emit_within(&*bridge, "event", &number, LIMIT).await;
        is_refused_in_time(refused, began.elapsed(), LIMIT)?;
    }
    // One with more time waits on.
    ensure!(!waiting.is_finished(), "emit returned while the broker was silent: {:?}", waiting.await);
    broker.mend_network();
    waiting.await?.context("emit when the broker speaks again")?;
    ledger.ok(EVENTS);
    eventually("nothing is lost", || async { Ok(ledger.balance().lost.is_empty()) }).await?;
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn nobody_gets_it(stage: Stage) -> Outcome {
    let (bridge, service) = (stage.new_bridge()?, stage.new_bridge()?);
    let must_route = patient_emit().with_must_route(true);
    stage.collect(&*bridge, "another", "another event").await?;
    bridge.start().await?;
    let refused = bridge.emit_message(stage.event("event", "to nobody")?, &must_route).await;
    let refused = refused.err().context("an event that must reach someone went to nobody")?;
    ensure!(refused.kind() == ErrorKind::Unroutable, "{refused:?}");
    stage.emit(&*bridge, "event", "to nobody in particular").await?;

    let collector = stage.watch(&*service, "subscriber", Filter::event(stage.unique("event"))).await?;
    service.start().await?;
    bridge.emit_message(stage.event("event", "to someone")?, &must_route).await.context("to someone")?;
    stage.emit(&*bridge, "event", "sentinel").await?;
    collector.sentinel("\"sentinel\"").await?;
    ensure!(collector.payloads() == ["\"to someone\"", "\"sentinel\""], "{:?}", collector.payloads());
    Ok(())
}

async fn refuses_must_route(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let collector = stage.watch(&*bridge, "subscriber", Filter::event(stage.unique("event"))).await?;
    bridge.start().await?;
    let must_route = patient_emit().with_must_route(true);
    let refused = bridge.emit_message(stage.event("event", "refused")?, &must_route).await;
    let refused = refused.err().context("must-route was accepted and is not claimed")?;
    ensure!(refused.kind() == ErrorKind::Unsupported(Capability::MustRoute), "{refused:?}");
    stage.emit(&*bridge, "event", "sentinel").await?;
    collector.sentinel("\"sentinel\"").await?;
    ensure!(collector.count() == 1, "what was refused was sent: {:?}", collector.payloads());
    Ok(())
}

async fn commands_wait_for_their_service(stage: Stage) -> Outcome {
    const COMMANDS: u64 = 100;
    let caller = stage.bridge().await?;
    stage.begin().await?;
    let durable = CommandOptions::default().with_durable(true);
    let service = stage.new_bridge()?;
    let registration = stage.serve(&*service, "echo", durable.clone(), echo()).await?;
    ensure!(registration.granted().durable, "not durable");
    service.start().await?;
    let report = service.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "{report:?}");

    let calls: Vec<_> = (0..COMMANDS).map(|number| stage.calling(&caller, "echo", number)).collect();
    eventually("they are sent", || async { Ok(caller.stats().invoked == COMMANDS) }).await?;
    let service = stage.new_bridge()?;
    stage.serve(&*service, "echo", durable, echo()).await?;
    service.start().await?;
    for call in calls {
        call.await?.context("a command that waited for its service")?;
    }
    ensure!(service.stats().executed == COMMANDS, "{:?}", service.stats());
    Ok(())
}

/// Subscribes with each way to ask for durability; returns whether it is given, and what comes.
async fn subscribe_each_way(stage: &Stage, bridge: &dyn EventBridge) -> Result<Vec<(bool, Arc<Collector>)>> {
    let mut subscribed = Vec::new();
    for (target, asked) in [("by default", None), ("kept", Some(true)), ("not kept", Some(false))] {
        if asked == Some(false) && !bridge.capabilities().has(Capability::TransientSubscriptions) {
            continue;
        }
        let mut options = SubscriptionOptions::default().with_max_concurrency(1);
        options.durable = asked;
        let (collector, filter) = (Collector::new(), Filter::event(stage.unique("event")));
        let registration = stage.subscribe(bridge, target, filter, options, collector.handler()).await?;
        let given = registration.granted().durable;
        ensure!(given == asked.unwrap_or(true), "{target}: {registration:?}");
        subscribed.push((given, collector));
    }
    Ok(subscribed)
}

async fn durable_is_as_asked(stage: Stage) -> Outcome {
    let (emitter, service) = (stage.bridge().await?, stage.new_bridge()?);
    stage.begin().await?;
    subscribe_each_way(&stage, &*service).await?;
    service.start().await?;
    service.shutdown(PATIENCE).await;
    stage.emit(&*emitter, "event", "missed").await?;
    let service = stage.new_bridge()?;
    let subscribed = subscribe_each_way(&stage, &*service).await?;
    service.start().await?;
    for (_, collector) in subscribed.iter().filter(|(is_durable, _)| *is_durable) {
        collector.at_least(1).await?;
    }
    stage.emit(&*emitter, "event", "sentinel").await?;
    for (is_durable, collector) in subscribed {
        collector.sentinel("\"sentinel\"").await?;
        let wanted: &[_] = if is_durable { &["\"missed\"", "\"sentinel\""] } else { &["\"sentinel\""] };
        ensure!(collector.payloads() == wanted, "durable is {is_durable}: {:?}", collector.payloads());
    }
    Ok(())
}

/// Asks for what is not given, durable or not, before and after the start, and looks that nothing is left of it.
pub(super) async fn refuses(stage: &Stage, capability: Capability) -> Outcome {
    let bridge = stage.new_bridge()?;
    for is_started in [false, true] {
        if is_started {
            bridge.start().await?;
        }
        let before = stage.deployment().routes().await?;
        let refused = if capability == Capability::DurableCommands {
            stage.serve(&*bridge, "asks", CommandOptions::default().with_durable(true), echo()).await
        } else {
            let durable = capability == Capability::DurableSubscriptions;
            let options = SubscriptionOptions::default().with_durable(durable);
            keep_books(stage, &*bridge, &Arc::default(), options).await
        };
        let error = refused.err().with_context(|| format!("{capability} was granted and is not claimed"))?;
        ensure!(error.kind() == ErrorKind::Unsupported(capability), "{error:?}");
        let after = stage.deployment().routes().await?;
        ensure!(after == before, "{before} routes became {after}");
    }
    Ok(())
}

async fn refuses_durable_subscriptions(stage: Stage) -> Outcome {
    refuses(&stage, Capability::DurableSubscriptions).await
}

async fn refuses_durable_commands(stage: Stage) -> Outcome {
    refuses(&stage, Capability::DurableCommands).await
}

async fn refuses_only_durable_ones(stage: Stage) -> Outcome {
    refuses(&stage, Capability::DurableSubscriptions).await?;
    let (ledger, ask) = (Arc::new(Ledger::default()), SubscriptionOptions::default);
    for (number, options) in [ask(), ask().with_durable(false)].into_iter().enumerate() {
        let bridge = stage.new_bridge()?;
        let refused = keep_books(&stage, &*bridge, &ledger, ask().with_durable(true)).await;
        ensure!(refused.is_err(), "durable was granted");
        // The refusal has left the address free.
        let registration = keep_books(&stage, &*bridge, &ledger, options).await?;
        ensure!(!registration.granted().durable, "{registration:?}");
        bridge.start().await?;
        stage.emit(&*bridge, "event", &number).await?;
        grows_to(number + 1, "events", || ledger.handled_count()).await?;
        bridge.shutdown(PATIENCE).await;
    }
    Ok(())
}
