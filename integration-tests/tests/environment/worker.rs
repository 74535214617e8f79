//! A process of its own, with one bridge.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail, ensure};
use purista_core::{
    Capability, Context, EventBridge, EventBridgeExt as _, Filter, HandlerError, Payload, RetryPolicy,
    Service, Subscription, SubscriptionOptions,
};
use serde::{Deserialize, Serialize};

use crate::brokers::bridge;

const ORDER: &str = "PURISTA_ENVIRONMENT_WORKER";
const READY: &str = "ready";

/// What a worker tells about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What its wall clock says, in seconds.
    pub(crate) clock: u64,
    /// How much time of a processor it has used.
    pub(crate) cpu: Duration,
    pub(crate) healthy: bool,
    pub(crate) dead_lettered: u64,
    pub(crate) dead_letter_failures: u64,
    /// How often the handler ran that fails.
    pub(crate) attempts: u32,
    /// Whether it keeps dead letters.
    pub(crate) keeps_dead_letters: bool,
}

/// A worker, which ends with this.
pub(crate) struct Worker {
    child: Child,
    _leash: ChildStdin,
}

/// Returns the URL of the broker if this process is a worker.
pub(crate) fn order() -> Option<String> {
    env::var(ORDER).ok()
}

/// Starts a worker by a command that ends with the program and its arguments.
pub(crate) fn start(mut before: Command, url: &str) -> anyhow::Result<Worker> {
    before.env(ORDER, url).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = before.spawn().with_context(|| format!("{before:?}"))?;
    let leash = child.stdin.take().context("no pipe")?;
    let mut lines = BufReader::new(child.stdout.take().context("no pipe")?);
    let worker = Worker { child, _leash: leash };
    let mut line = String::new();
    lines.read_line(&mut line)?;
    ensure!(line.trim() == READY, "the worker did not start: {line:?} ({before:?})");
    Ok(worker)
}

impl Worker {
    /// Returns whether it runs.
    pub(crate) fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Tells the process that started this one something.
pub(crate) fn tell(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody may read any more.
    let _told = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Serves until the process that started this one lets go.
pub(crate) fn run(url: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let bridge = bridge(url, None)?;
    runtime.block_on(serve(&bridge))?;
    tell(READY);
    let mut rest = Vec::new();
    io::stdin().read_to_end(&mut rest)?;
    if !rest.is_empty() {
        bail!("nothing is expected here");
    }
    Ok(())
}

async fn serve(bridge: &Arc<dyn EventBridge>) -> anyhow::Result<()> {
    let attempts = Arc::new(AtomicU32::new(0));
    let (reported, counted) = (Arc::clone(bridge), Arc::clone(&attempts));
    // The in-memory component of a sidecar keeps no dead letters.
    let given = bridge.capabilities();
    let keeps =
        given.has(Capability::DeadLetter) && given.has(Capability::BoundedRetry) && bridge.name() != "dapr";
    let service = Service::new("Worker", "1")
        .command("echo", |_ctx: Context, input: u32| async move { Ok(input) })
        .command("slow", |_ctx: Context, millis: u64| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(millis)
        })
        .command("emit", |ctx: Context, number: u32| async move {
            ctx.emit("fromWorker", &number).await?;
            Ok(number)
        })
        .command("report", move |_ctx: Context, _: ()| {
            let report = report(&*reported, counted.load(Ordering::SeqCst), keeps);
            async move { report.map_err(|error| HandlerError::unhandled(error.to_string())) }
        });
    bridge.serve([service]).await?;
    poison(bridge, &attempts, keeps).await.map(drop)
}

async fn poison(
    bridge: &Arc<dyn EventBridge>,
    attempts: &Arc<AtomicU32>,
    keeps: bool,
) -> anyhow::Result<Option<purista_core::Registration>> {
    if !keeps {
        return Ok(None);
    }
    let attempts = Arc::clone(attempts);
    let handler = purista_conformance::on_event(move |_| {
        attempts.fetch_add(1, Ordering::SeqCst);
        async { Err(HandlerError::unhandled("poison")) }
    });
    let retry = RetryPolicy::default().with_max_attempts(2).with_initial_delay(Duration::from_millis(500));
    let options = SubscriptionOptions::default().with_retry(retry).with_dead_letter(true);
    let subscription = Subscription::new(("Worker", "1", "poison"), Filter::event("poison"));
    Ok(Some(bridge.register_subscription(subscription.with_options(options), handler).await?))
}

fn report(bridge: &dyn EventBridge, attempts: u32, keeps_dead_letters: bool) -> anyhow::Result<Report> {
    let stats = bridge.stats();
    let times = std::fs::read_to_string("/proc/self/stat")?;
    // After the name of the program, which may have anything in it; in hundredths of a second.
    let fields: Vec<&str> = times.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Report {
        clock: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        cpu: Duration::from_millis(ticks * 10),
        healthy: bridge.health().is_healthy(),
        dead_lettered: stats.dead_lettered,
        dead_letter_failures: stats.dead_letter_failures,
        attempts,
        keeps_dead_letters,
    })
}

/// Reads what a payload holds, for handlers that count.
pub(crate) fn number(payload: &Payload) -> u32 {
    payload.as_str().parse().unwrap_or(u32::MAX)
}
