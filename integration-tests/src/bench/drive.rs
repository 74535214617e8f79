//! Makes the same load for every contender.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::contender::Sample;

/// Calls one after the other, and measures the median and the 99th percentile of a call in microseconds.
pub(super) async fn one_by_one<C, F>(time: Duration, call: C) -> anyhow::Result<Sample>
where
    C: Fn() -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    // On a task of its own, as a user's program would do it.
    let calls = tokio::spawn(async move {
        let (end, mut calls) = (Instant::now() + time, Vec::with_capacity(100_000));
        loop {
            let begin = Instant::now();
            if begin >= end && !calls.is_empty() {
                return anyhow::Ok(calls);
            }
            call().await?;
            calls.push(begin.elapsed());
        }
    });
    let mut calls = calls.await??;
    calls.sort_unstable();
    let percentile = |percent: usize| calls[(calls.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    Ok(Sample { operations: calls.len() as u64, values: vec![percentile(50), percentile(99)] })
}

/// Keeps so many calls in flight, each of a task of its own, and returns how many there were.
pub(super) async fn in_flight<C, F>(tasks: usize, time: Duration, call: C) -> anyhow::Result<u64>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for _ in 0..tasks {
        let call = call.clone();
        callers.spawn(async move {
            let mut calls = 0;
            loop {
                call().await?;
                calls += 1;
                if Instant::now() >= end {
                    return anyhow::Ok(calls);
                }
            }
        });
    }
    let mut calls = 0;
    while let Some(caller) = callers.join_next().await {
        calls += caller??;
    }
    Ok(calls)
}

/// Keeps so many calls in flight, and measures how many are done in a second.
pub(super) async fn per_second<C, F>(tasks: usize, time: Duration, call: C) -> anyhow::Result<Sample>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = Instant::now();
    let operations = in_flight(tasks, time, call).await?;
    Ok(rate(operations, begin))
}

/// Returns how many operations there were in a second since `begin`.
pub(super) fn rate(operations: u64, begin: Instant) -> Sample {
    Sample { operations, values: vec![operations as f64 / begin.elapsed().as_secs_f64()] }
}
