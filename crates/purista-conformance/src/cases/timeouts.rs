//! Time limits.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use purista_core::{Capability, CommandOptions, ErrorKind, EventBridge, MAX_TIMEOUT};
use tokio::time::Instant;

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, echo, eventually},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("TMO-1", the_caller_hears_of_it),
    case!("TMO-2", an_answer_comes_late),
    case!("TMO-3", a_command_waits_too_long, Capability::MessageExpiry, else "commands do not expire while they wait"),
    case!("TMO-4", odd_time_limits),
];

/// How much later than its time limit a caller may hear of it, on a machine that does other things as well. It never may
/// earlier.
fn tolerance(limit: Duration) -> Duration {
    (limit / 2).clamp(Duration::from_millis(90), Duration::from_secs(1))
}

/// Calls a command that does not answer, and looks at the clock.
async fn times_out(stage: &Stage, bridge: &dyn EventBridge, target: &str, limit: Duration) -> Outcome {
    let began = Instant::now();
    let error = stage.invoke_within(bridge, target, &limit, limit).await.err().context("an answer")?;
    let took = began.elapsed();
    ensure!(error.bridge_kind() == Some(ErrorKind::Timeout), "after {limit:?}: {error:?}");
    ensure!(took >= limit && took <= limit + tolerance(limit), "{limit:?} became {took:?}");
    Ok(())
}

async fn the_caller_hears_of_it(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let (latch, executed) = (Latch::new(), Collector::new());
    stage.serve(&*bridge, "silent", CommandOptions::default(), latch.command(&executed)).await?;
    bridge.start().await?;
    let limits = [500, 1_000, 5_000].map(Duration::from_millis);
    try_join_all(limits.map(|limit| times_out(&stage, &*bridge, "silent", limit))).await?;
    ensure!(executed.count() == 3, "{} of 3 commands arrived", executed.count());
    let stats = bridge.stats();
    ensure!(stats.timed_out == 3 && stats.pending_calls == 0, "{stats:?}");
    Ok(())
}

async fn an_answer_comes_late(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let (latch, executed) = (Latch::new(), Collector::new());
    stage.serve(&*bridge, "slow", CommandOptions::default(), latch.command(&executed)).await?;
    bridge.start().await?;
    times_out(&stage, &*bridge, "slow", Duration::from_millis(500)).await?;
    latch.reached(1).await?;
    let next = stage.calling(&bridge, "slow", "next");
    latch.reached(2).await?;

    // The answer to the first call arrives while the second one waits.
    latch.let_through(1);
    let late = u64::from(stage.deployment().answers_come_late());
    let is_over = || async { Ok((bridge.stats().executed, bridge.stats().late_responses) == (1, late)) };
    eventually("the late answer is counted", is_over).await?;
    ensure!(bridge.stats().pending_calls == 1, "the late answer ended another call: {:?}", bridge.stats());
    latch.open();
    let response = next.await??;
    ensure!(response.payload().is_some_and(|payload| payload.as_str() == "\"next\""), "{response:?}");
    let stats = bridge.stats();
    ensure!(stats.late_responses == late && stats.forged_responses == 0 && stats.answered == 1, "{stats:?}");
    Ok(())
}

async fn a_command_waits_too_long(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let granularity = bridge.capabilities().expiry_granularity();
    let (latch, executed) = (Latch::new(), Collector::new());
    let options = CommandOptions::default().with_max_concurrency(1);
    stage.serve(&*bridge, "busy", options, latch.command(&executed)).await?;
    bridge.start().await?;
    let first = stage.calling(&bridge, "busy", "first");
    latch.reached(1).await?;
    times_out(&stage, &*bridge, "busy", granularity.max(Duration::from_millis(100))).await?;
    // It may expire in coarser steps than the caller's clock has, and it was on its way before its time at the receiver
    // began.
    tokio::time::sleep(granularity.max(Duration::from_secs(1))).await;

    latch.open();
    first.await??;
    stage.invoke(&*bridge, "busy", "sentinel").await?;
    ensure!(executed.payloads() == ["\"first\"", "\"sentinel\""], "executed: {:?}", executed.payloads());
    // Expired at the broker or here; once in either case.
    ensure!(bridge.stats().expired <= 1 && bridge.stats().late_responses == 0, "{:?}", bridge.stats());
    Ok(())
}

async fn odd_time_limits(stage: Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    let (latch, executed) = (Latch::new(), Collector::new());
    stage.serve(&*bridge, "silent", CommandOptions::default(), latch.command(&executed)).await?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    bridge.start().await?;
    for limit in [1, 499].map(Duration::from_millis) {
        times_out(&stage, &*bridge, "silent", limit).await?;
    }
    for limit in [Duration::from_millis(499), PATIENCE, MAX_TIMEOUT] {
        let answer = stage.invoke_within(&*bridge, "echo", &0, limit).await;
        answer.with_context(|| format!("a call within {limit:?}"))?;
    }
    let too_long = MAX_TIMEOUT + Duration::from_nanos(1);
    for limit in [Duration::ZERO, too_long, Duration::from_millis(u64::MAX), Duration::MAX] {
        let call = stage.invoke_within(&*bridge, "echo", &0, limit).await.err();
        let call = call.and_then(|error| error.bridge_kind());
        let emit = stage.emit_within(&*bridge, "event", &0, limit).await.err().map(|error| error.kind());
        let refused = [Some(ErrorKind::InvalidConfig); 2];
        ensure!([call, emit] == refused, "a call and an emit within {limit:?}: {call:?}, {emit:?}");
    }
    Ok(())
}
