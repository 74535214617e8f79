//! A wall clock that is set while the bridge runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use purista_core::{Filter, Subscription};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::{
    brokers::Kind,
    peer::{PATIENCE, Peer, emit},
    worker::{self, Report, number},
};

const HOUR: i64 = 3_600;

pub(crate) async fn jumps_change_nothing(kind: Kind) -> anyhow::Result<()> {
    let broker = kind.start(None).await?;
    let peer = Peer::start(&broker.url()).await?;
    let seen = Arc::new(AtomicU32::new(0));
    if kind != Kind::Dapr {
        let last = Arc::clone(&seen);
        let handler = purista_conformance::on_event(move |context| {
            last.store(context.message().payload().map_or(0, number), Ordering::SeqCst);
            async { Ok(()) }
        });
        let subscription = Subscription::new(("Peer", "1", "watch"), Filter::event("fromWorker"));
        peer.0.register_subscription(subscription, handler).await?;
    }

    let folder = TempDir::with_prefix("purista-clock-")?;
    let clock = Clock(folder.path().join("offset"));
    clock.set(0)?;
    let url = broker.url_at(&broker.address().to_string());
    let mut worker = worker::start(clock.command()?, &url)?;
    peer.until_answered().await?;

    let mut poisoned = 0;
    for (number, offset) in (1..).zip([HOUR, -HOUR, 0, 2 * HOUR]) {
        let before: Report = peer.ask("report", &()).await?;
        ensure!(before.keeps_dead_letters == (kind != Kind::Dapr), "{before:?}");
        if before.keeps_dead_letters {
            emit(&*peer.0, "poison", number).await?;
            poisoned += 1;
        }
        // A call that runs across the jump, with a limit that is much less than it.
        let slow = peer.ask_within::<u64>("slow", &1_500, Duration::from_secs(15));
        let jump = async {
            clock.set(offset)?;
            peer.ask::<u32>("echo", &number).await
        };
        let (began, (slow, echoed)) = (Instant::now(), tokio::join!(slow, jump));
        ensure!(slow? == 1_500 && echoed? == number);
        ensure!(began.elapsed() >= Duration::from_millis(1_500), "{:?}", began.elapsed());
        peer.ask::<u32>("emit", &number).await?;
        if kind != Kind::Dapr {
            until(|| seen.load(Ordering::SeqCst) == number).await.context("the event did not arrive")?;
        }

        let settled = async {
            let mut tick = interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                let report: Report = peer.ask("report", &()).await?;
                if report.dead_lettered >= poisoned && report.healthy {
                    return anyhow::Ok(report);
                }
            }
        };
        let after = timeout(PATIENCE, settled).await.context("no dead letter")??;
        ensure!(after.healthy, "{after:?}");
        let is = i64::try_from(after.clock)?
            - i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        ensure!((is - offset).abs() < 60, "the clock of the worker is {is} s off, and not {offset}");
        let (used, took) = (after.cpu.saturating_sub(before.cpu), began.elapsed());
        ensure!(used < took / 2, "it computed for {used:?} of {took:?}");
    }
    // A few round trips later nothing has come twice.
    for number in 0..10 {
        peer.ask::<u32>("echo", &number).await?;
    }
    let report: Report = peer.ask("report", &()).await?;
    ensure!(report.dead_lettered == poisoned && report.dead_letter_failures == 0, "{report:?}");
    ensure!(u64::from(report.attempts) == 2 * poisoned, "{report:?}");
    ensure!(worker.is_running()?, "the worker is gone");
    Ok(())
}

async fn until(is_so: impl Fn() -> bool + Send + Sync) -> anyhow::Result<()> {
    let mut tick = interval(Duration::from_millis(20));
    let there = async {
        while !is_so() {
            tick.tick().await;
        }
    };
    Ok(timeout(PATIENCE, there).await?)
}

/// The wall clock of a worker, as seconds beside the real one; its monotonic clock goes on as it should.
struct Clock(PathBuf);

impl Clock {
    fn set(&self, offset: i64) -> anyhow::Result<()> {
        // At once, as the worker may read it at any time.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{offset:+}s\n"))?;
        Ok(fs::rename(new, &self.0)?)
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command
            .env("LD_PRELOAD", library()?)
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        Ok(command)
    }
}

/// Finds libfaketime where Debian puts it.
fn library() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(Result::ok).map(|entry| entry.path());
    let libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let libraries = libraries.chain([Path::new("/usr/lib/faketime/libfaketimeMT.so.1").to_owned()]);
    libraries
        .into_iter()
        .find(|library| library.is_file())
        .context("libfaketime is missing: apt-get install faketime")
}
