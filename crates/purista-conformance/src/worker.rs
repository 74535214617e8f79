//! Members of a group that live in a process of their own, and die with it.
//!
//! The program of the suite starts itself again, with its orders in the environment. The other process finds the stage,
//! registers, and tells line by line what happens. It ends when nobody can read that any more.

use std::{
    env,
    io::{self, Write as _},
    process::{self, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Acknowledge, CommandHandler, CommandOptions, EventBridge, Filter, RetryPolicy, SubscriptionHandler,
    SubscriptionOptions,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{interval, timeout},
};

use crate::{
    case::Outcome,
    probe::{on_command, on_event},
    profile::Profile,
    runner::block_on,
    stage::{PATIENCE, Stage},
};

/// The variable that makes a process a worker.
const ORDERS: &str = "PURISTA_CONFORMANCE_WORKER";

/// Who all members are an instance of.
pub(crate) const MEMBER: &str = "member";

/// The content of the event that [`Job::DieOfPoison`] dies of.
pub(crate) const POISON: &str = "poison";

/// Said when the registration is live.
pub(crate) const REGISTERED: &str = "registered";

/// Said when an event was handled.
pub(crate) const HANDLED: &str = "handled";

/// Said when the bridge has given up a message.
pub(crate) const GIVEN_UP: &str = "given up";

/// Whether this program becomes a worker when it is started as one.
static CAN_WORK: AtomicBool = AtomicBool::new(false);

/// What a worker does with the event `event` of its stage, or as the command [`MEMBER`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Holds as many as it gets at once, forever.
    Hold(usize),
    /// Handles what comes, and dies of the poison. So many attempts are made.
    DieOfPoison(u32),
    /// Holds as many calls as it gets at once, forever.
    HoldCommands(usize),
}

impl Job {
    /// Returns how all members subscribe, in whatever process they are.
    pub(crate) fn options(self) -> SubscriptionOptions {
        let best = SubscriptionOptions::default();
        match self {
            Self::Hold(at_once) | Self::HoldCommands(at_once) => best.with_max_concurrency(at_once),
            Self::DieOfPoison(attempts) => {
                let retry = RetryPolicy::default().with_max_attempts(attempts);
                best.with_retry(retry.with_initial_delay(Duration::from_millis(10)))
            }
        }
    }

    /// Returns how all instances serve the command: it comes again if they die.
    pub(crate) fn command_options(self) -> CommandOptions {
        let options = CommandOptions::default().with_acknowledge(Acknowledge::AfterHandler);
        match self {
            Self::HoldCommands(at_once) => options.with_max_concurrency(at_once),
            Self::Hold(_) | Self::DieOfPoison(_) => options,
        }
    }

    /// Registers what the worker is there for.
    async fn register(self, stage: &Stage, bridge: &dyn EventBridge) -> Outcome {
        if let Self::HoldCommands(_) = self {
            stage.serve(bridge, MEMBER, self.command_options(), Self::holding_commands()).await?;
        } else {
            let filter = Filter::event(stage.unique("event"));
            stage.subscribe(bridge, MEMBER, filter, self.options(), self.handler()).await?;
        }
        Ok(())
    }

    fn holding_commands() -> Arc<dyn CommandHandler> {
        let in_hand = AtomicUsize::new(0);
        on_command(move |_| {
            let in_hand = in_hand.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                say(&Self::in_hand(in_hand))?;
                std::future::pending().await
            }
        })
    }

    fn handler(self) -> Arc<dyn SubscriptionHandler> {
        let in_hand = AtomicUsize::new(0);
        on_event(move |context| {
            let is_poison =
                context.message().payload().is_some_and(|content| content.as_str() == quoted(POISON));
            let in_hand = in_hand.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                match self {
                    Self::Hold(_) | Self::HoldCommands(_) => {
                        say(&Self::in_hand(in_hand))?;
                        std::future::pending().await
                    }
                    Self::DieOfPoison(_) if is_poison => process::abort(),
                    Self::DieOfPoison(_) => Ok(say(HANDLED)?),
                }
            }
        })
    }

    /// Returns what is said when so many events are in hand.
    pub(crate) fn in_hand(events: usize) -> String {
        format!("{events} in hand")
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    location: String,
    scope: String,
    seed: u64,
    job: Job,
}

/// A worker, as the trial sees it. It is killed when this is dropped.
pub(crate) struct Worker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
    /// The worker ends when this is closed.
    _stdin: ChildStdin,
}

impl Worker {
    /// Starts a worker on this stage.
    pub(crate) fn hire(stage: &Stage, job: Job) -> Result<Self> {
        ensure!(CAN_WORK.load(Ordering::SeqCst), "only `purista_conformance::main` can start workers");
        let location = stage.deployment().location();
        let location = location.context("this row needs a deployment that other processes can reach")?;
        let orders = Orders { location, scope: stage.scope().to_owned(), seed: stage.seed(), job };
        let mut process = Command::new(env::current_exe()?)
            .env(ORDERS, serde_json::to_string(&orders)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a worker")?;
        let stdout = process.stdout.take().context("a worker without output")?;
        let stdin = process.stdin.take().context("a worker without input")?;
        Ok(Self { process, lines: BufReader::new(stdout).lines(), said: Vec::new(), _stdin: stdin })
    }

    /// Waits until the worker has said this. Returns whether it did so before it died.
    pub(crate) async fn says(&mut self, wanted: &str) -> Result<bool> {
        let said = timeout(PATIENCE, async {
            while !self.said.iter().any(|line| line == wanted) {
                match self.lines.next_line().await? {
                    Some(line) => self.said.push(line),
                    None => return Ok(false),
                }
            }
            Ok(true)
        });
        let said = said.await;
        said.with_context(|| format!("the worker does not say `{wanted}`, but: {:?}", self.said))?
    }

    /// Kills the process, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Outcome {
        self.process.kill().await.context("kill a worker")
    }

    /// Waits for the end of a worker that dies by itself.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        timeout(PATIENCE, self.process.wait())
            .await
            .context("the worker does not end")?
            .context("wait for it")
    }
}

/// Does what a worker has to do, if this process was started as one.
pub(crate) fn work_if_asked(profile: &Arc<dyn Profile>) -> Option<ExitCode> {
    let Ok(orders) = env::var(ORDERS) else {
        CAN_WORK.store(true, Ordering::SeqCst);
        return None;
    };
    thread::spawn(end_with_the_trial);
    match block_on(work(Arc::clone(profile), &orders)) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            complain(&error);
            Some(ExitCode::FAILURE)
        }
    }
}

/// Waits until the process that started this one closes its end, or dies.
#[expect(clippy::exit, reason = "whatever this process does meanwhile, nobody waits for it any more")]
fn end_with_the_trial() {
    let _closed = io::copy(&mut io::stdin(), &mut io::sink());
    process::exit(0);
}

#[expect(clippy::print_stderr, reason = "it is what the trial's log shows of the worker")]
fn complain(error: &anyhow::Error) {
    eprintln!("worker: {error:?}");
}

fn say(what: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}

async fn work(profile: Arc<dyn Profile>, orders: &str) -> Outcome {
    let Orders { location, scope, seed, job } = serde_json::from_str(orders).context("orders")?;
    let stage = Stage::reach(profile, &location, scope, seed).await?;
    let bridge = stage.new_bridge()?;
    job.register(&stage, &*bridge).await?;
    bridge.start().await?;
    say(REGISTERED)?;
    let mut poll = interval(Duration::from_millis(5));
    while bridge.stats().dead_lettered + bridge.stats().dropped == 0 {
        poll.tick().await;
    }
    say(GIVEN_UP)?;
    std::future::pending().await
}
