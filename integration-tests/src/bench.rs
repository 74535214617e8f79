//! A benchmark of a bridge beside the raw client of its broker: the same work, the same guarantees, one server.
//!
//! **Set-up.** The harness starts one server. All clients and bridges live in this process, on one multi-thread runtime
//! with two workers, as in a user's program. Each side has a connection for who sends and one for who serves. The
//! contenders of a scenario take turns, round by round, so that all of them see the same weather; the first of them
//! changes from round to round. A ratio is the median of the ratios within the rounds.
//!
//! **Table.** `client` and `server` are the processor time per operation of this process and of the server, with its
//! sidecars. `noise` is the share of the machine that other processes took; a scenario with more than some percent should
//! be repeated.

mod contender;
mod cpu;
mod drive;
mod handled;
mod options;
pub mod ours;
mod report;
mod scenario;

use std::{env, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{runtime::Builder, time::timeout};

pub use self::{
    contender::{Consumed, Contender, Stage},
    handled::Handled,
    scenario::{Comparison, Goal, Scenario},
};
use self::{cpu::Cpu, options::Options, report::Round};
use crate::{Process, dapr::Sidecar, mosquitto::MosquittoServer, nats::NatsServer, rabbitmq::RabbitServer};

/// How long the set-up of a scenario, and what a round has to do beyond its time, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server whose processor time is measured.
pub trait Server: Send + Sync + 'static {
    /// Returns its process, if it is a child of this one.
    fn process(&self) -> Option<&Process>;
}

impl Server for NatsServer {
    fn process(&self) -> Option<&Process> {
        self.process().ok()
    }
}

impl Server for RabbitServer {
    fn process(&self) -> Option<&Process> {
        self.process().ok()
    }
}

impl Server for MosquittoServer {
    fn process(&self) -> Option<&Process> {
        Some(self.process())
    }
}

/// There is none: only the sidecars of a stage take time.
impl Server for () {
    fn process(&self) -> Option<&Process> {
        None
    }
}

/// Does what the command line asks for, with a server that `start` starts.
///
/// # Errors
///
/// If the command line is malformed, or if a scenario fails or takes too long.
pub fn run<S: Server, F>(
    scenarios: &'static [Scenario<S>],
    start: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<S>> + Send + 'static,
{
    let options = Options::parse(env::args().skip(1))?;
    let chosen: Vec<_> = scenarios.iter().filter(|scenario| options.wants(scenario.name)).collect();
    if options.only_lists() {
        report::print_names(&chosen);
    }
    if options.only_lists() || chosen.is_empty() {
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On a worker, as everything else: the thread that blocks here would be a third one.
    runtime.block_on(async { tokio::spawn(async { measure(chosen, options, start().await?).await }).await? })
}

async fn measure<S: Server>(
    chosen: Vec<&'static Scenario<S>>,
    options: Options,
    server: S,
) -> anyhow::Result<()> {
    let server = Arc::new(server);
    report::print_head();
    let mut goals = Vec::new();
    for scenario in chosen {
        let set_up = (scenario.set_up)(Arc::clone(&server));
        let mut stage = timeout(PATIENCE, set_up).await.context("the set-up took too long")??;
        if let Some(who) = &options.who {
            stage.contenders.retain(|contender| contender.name == who);
        }
        let processes = server.process().into_iter().chain(stage.sidecars.iter().map(Sidecar::process));
        let cpu = Cpu::new(processes.filter_map(Process::id).collect());
        let before = cpu.read();
        let played = play(&stage.contenders, &options, &cpu).await.context(scenario.name)?;
        let noise = cpu.noise_since(&before);
        report::print_notes(scenario, &stage.notes);
        goals.extend(report::print(scenario, &stage.contenders, &played, noise));
        timeout(PATIENCE, stage.close()).await.context("the end took too long")?.context(scenario.name)?;
    }
    report::print_goals(&goals);
    Ok(())
}

/// Lets the contenders take turns. Returns what each of them did in each round.
async fn play(contenders: &[Contender], options: &Options, cpu: &Cpu) -> anyhow::Result<Vec<Vec<Round>>> {
    let mut played: Vec<_> = contenders.iter().map(|_| Vec::new()).collect();
    for contender in contenders {
        let sample = timeout(PATIENCE, contender.play(options.warm_up)).await;
        sample.with_context(|| format!("the warm-up of {} took too long", contender.name))??;
    }
    for round in 0..options.rounds {
        for turn in 0..contenders.len() {
            let number = (round + turn) % contenders.len();
            let before = cpu.read();
            let sample = timeout(options.seconds + PATIENCE, contenders[number].play(options.seconds));
            let sample =
                sample.await.with_context(|| format!("{} took too long", contenders[number].name))??;
            played[number].push(Round { cpu: cpu.used_since(&before), sample });
        }
    }
    Ok(played)
}
