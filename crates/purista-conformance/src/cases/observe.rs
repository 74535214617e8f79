//! What an operator sees.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Capability, CommandOptions, ErrorKind, EventBridge, Filter, HandlerError, Message, RetryPolicy,
    SubscriptionOptions, TraceContext,
};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, echo, eventually, on_command, on_event},
    stage::{Stage, patient_emit},
};

pub(super) const CASES: &[Case] = &[case!("OBS-1", a_trace_goes_along), case!("OBS-3", the_counters_balance)];

async fn a_trace_goes_along(stage: Stage) -> Outcome {
    let (near, far) = (stage.bridge().await?, stage.bridge().await?);
    let everything = stage.watch(&*near, "everything", Filter::any()).await?;
    let (second, third, command) = (stage.unique("second"), stage.unique("third"), stage.address("command"));
    let handler = on_command(move |context| {
        let third = third.clone();
        async move {
            context.emit(third, &0).await?;
            Ok(None)
        }
    });
    stage.serve(&*near, "command", CommandOptions::default(), handler).await?;
    let subscriber = on_event(move |context| {
        let (second, command) = (second.clone(), command.clone());
        async move {
            context.emit(second, &0).await?;
            Ok(context.invoke::<()>(command, &0).await?)
        }
    });
    let first = Filter::event(stage.unique("first"));
    stage.subscribe(&*far, "subscriber", first, SubscriptionOptions::default(), subscriber).await?;
    stage.begin().await?;

    let roots: Vec<Option<TraceContext>> =
        (1..=20_u128).map(|number| (number % 4 != 0).then(|| root(number)).flatten()).collect();
    for (number, root) in roots.iter().enumerate() {
        let mut event =
            stage.event("first", &0)?.with_trace_id(stage.unique(&format!("run{number}x")).as_str());
        if let Some(root) = root {
            event = event.with_trace_context(root.clone());
        }
        near.emit_message(event, &patient_emit()).await?;
    }
    for (number, root) in roots.iter().enumerate() {
        let trace_id = stage.unique(&format!("run{number}x")).as_str().into();
        let of_run = || {
            let mut messages = everything.messages();
            messages.retain(|message| message.trace_id.as_ref() == Some(&trace_id));
            messages
        };
        // Three events, a command and its response.
        eventually("a run is seen", || async { Ok(of_run().len() >= 5) }).await?;
        ensure!(of_run().len() == 5, "{:?}", of_run());
        is_one_trace(&of_run(), root.as_ref())?;
    }
    Ok(())
}

fn root(number: u128) -> Option<TraceContext> {
    let traceparent = format!("00-{:032x}-{number:016x}-{:02x}", number << 64 | 1, number % 2);
    TraceContext::from_fields(
        Some(traceparent),
        Some(format!("vendor={number}")),
        Some(format!("user={number}")),
    )
}

/// Checks that messages share the trace of the first one, each as a span of its own, or that they have none.
fn is_one_trace(messages: &[Arc<Message>], root: Option<&TraceContext>) -> Result<()> {
    let mut spans = HashSet::new();
    for message in messages {
        let trace = &message.trace_context;
        let Some(root) = root else {
            ensure!(trace.is_empty(), "{message:?} is in a trace that nobody began");
            continue;
        };
        let own = trace.traceparent().with_context(|| format!("no trace: {message:?}"))?;
        let begun = root.traceparent().context("no trace")?;
        ensure!(own[..36] == begun[..36] && own[52..] == begun[52..], "{own} is not of {begun}: {message:?}");
        ensure!(spans.insert(own[36..52].to_owned()), "a span that another message has: {message:?}");
        let along = (trace.tracestate(), trace.baggage());
        ensure!(along == (root.tracestate(), root.baggage()), "{along:?} with {message:?}");
    }
    Ok(())
}

async fn the_counters_balance(stage: Stage) -> Outcome {
    const EVENTS: u64 = 200;
    let bridge = stage.bridge().await?;
    let given = bridge.capabilities();
    let retries = given.has(Capability::BoundedRetry) && given.has(Capability::DelayedRetry);
    let buries = given.has(Capability::DeadLetter);
    let event = || Filter::event(stage.unique("counted"));
    let fail = || on_event(|_| async { Err(HandlerError::unhandled("on purpose")) });
    let once = || SubscriptionOptions::default().with_retry(RetryPolicy::NEVER);
    let handled = Collector::new();
    stage.subscribe(&*bridge, "handles", event(), once(), handled.handler()).await?;
    stage.subscribe(&*bridge, "drops", event(), once().with_dead_letter(false), fail()).await?;
    if buries {
        stage.subscribe(&*bridge, "buries", event(), once().with_dead_letter(true), fail()).await?;
    }
    if retries {
        let later = RetryPolicy::default().with_initial_delay(Duration::from_secs(3_600));
        let options = SubscriptionOptions::default().with_retry(later);
        stage.subscribe(&*bridge, "waits", event(), options, fail()).await?;
    }
    let slow = serve_calls(&stage, &*bridge).await?;
    stage.begin().await?;
    let emitted = bridge.stats().emitted;
    stage.emit_each(&*bridge, "counted", 0..200).await?;
    ensure!(bridge.stats().emitted == emitted + EVENTS, "{:?}", bridge.stats());
    let filtered = bridge.stats().filtered;
    for _ in 0..10 {
        let elsewhere = stage.event("elsewhere", &0)?.stamp(bridge.instance_id()).encode();
        ensure!(stage.deployment().misroute(&stage.address("handles"), elsewhere).await?, "no subscriber");
    }
    let failures = EVENTS * (1 + u64::from(buries) + u64::from(retries));
    let all_tried = || {
        let stats = bridge.stats();
        let filtered = stats.filtered - filtered;
        stats.handled == EVENTS && stats.failed_attempts == failures && filtered >= 10
    };
    eventually("all is tried", || async { Ok(all_tried()) })
        .await
        .with_context(|| format!("{:?}", bridge.stats()))?;
    calls_are_counted(&stage, &*bridge, &slow).await?;

    bridge.shutdown(Duration::from_secs(10)).await;
    let stats = bridge.stats();
    ensure!(stats.dropped == EVENTS && stats.dead_lettered == EVENTS * u64::from(buries), "{stats:?}");
    ensure!(stats.in_hand == 0, "{stats:?}");
    let ends = stats.handled + stats.dead_lettered + stats.dropped + stats.filtered + stats.released;
    ensure!(stats.delivered == ends, "{} deliveries ended {ends} times: {stats:?}", stats.delivered);
    ensure!(handled.count() == 200, "{} of {EVENTS}", handled.count());
    Ok(())
}

/// Serves a command that answers, and one that waits at the latch.
async fn serve_calls(stage: &Stage, bridge: &dyn EventBridge) -> Result<Arc<Latch>> {
    let latch = Latch::new();
    stage.serve(bridge, "echo", CommandOptions::default(), echo()).await?;
    stage.serve(bridge, "slow", CommandOptions::default(), latch.command(&Collector::new())).await?;
    Ok(latch)
}

/// Checks that what became of calls adds up.
async fn calls_are_counted(stage: &Stage, bridge: &dyn EventBridge, latch: &Latch) -> Result<()> {
    for number in 0..50 {
        stage.invoke(bridge, "echo", &number).await?;
    }
    let late = stage.invoke_within(bridge, "slow", &0, Duration::from_secs(5)).await;
    ensure!(late.err().and_then(|error| error.bridge_kind()) == Some(ErrorKind::Timeout), "no time limit");
    latch.open();
    let late = u64::from(stage.deployment().answers_come_late());
    let is_over = || async { Ok((bridge.stats().executed, bridge.stats().late_responses) == (51, late)) };
    eventually("the late response is counted", is_over).await?;
    let stats = bridge.stats();
    let (calls, ends) = (stats.invoked, stats.answered + stats.timed_out);
    ensure!(calls == 51 && ends == 51 && stats.timed_out == 1 && stats.executed == 51, "{stats:?}");
    Ok(())
}
