//! The bridge beside the raw client `async-nats`: the same work, the same guarantees, one nats-server.
//!
//! Run all of it, or the scenarios whose names contain a word:
//!
//! ```sh
//! cargo bench -p purista-nats --bench nats
//! cargo bench -p purista-nats --bench nats -- request-512 --rounds 15 --seconds 1
//! cargo bench -p purista-nats --bench nats -- request-512 --who ours # one contender, for a profile
//! ```
//!
//! **Set-up.** The harness starts one nats-server with its defaults and JetStream. All clients and bridges live in this
//! process, on one multi-thread runtime with two workers, as in a user's program. Each side has a connection for who
//! sends and one for who serves. The contenders of a scenario take turns, round by round, so that all of them see the
//! same weather; the first of them changes from round to round. A ratio is the median of the ratios within the rounds.
//!
//! **Contenders.** The payload is 256 bytes of JSON.
//!
//! - `raw-a`: the bare payload on a short subject.
//! - `raw-b`: as `raw-a`, with the bytes of our encoded envelope. What it loses is the price of the envelope's size.
//! - `raw-c`: all that the bridge puts on the wire: its subjects and patterns, its headers, and the copy of a response
//!   that goes to subscriptions on responses. Nobody could do that faster, as nothing is made or understood.
//! - `ours`: the bridge with its defaults, called with whole drafts. Only a subscription's concurrency is not the default
//!   of 64 but as many messages as the raw client asks for at once.
//!
//! **Guarantees.** Requests have a time limit on both sides. Events carry a message id, by which the server recognises
//! what is sent again, in a stream with the configuration of ours, and the publish is acknowledged. Consumers are durable,
//! with the configuration of ours, and acknowledge each message after it was handled. A round of events ends when the
//! server has all acknowledgements.
//!
//! **Columns.** `client` and `server` are the processor time per operation of this process and of nats-server. `noise` is
//! the share of the machine that other processes took; a scenario with more than some percent should be repeated.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

mod contender;
mod cpu;
mod drive;
mod events;
mod handled;
mod jetstream;
mod options;
mod ours;
mod report;
mod requests;
mod scenario;
mod wire;

use std::{env, time::Duration};

use anyhow::Context as _;
use purista_integration_tests::nats::{NatsConfig, NatsServer};
use tokio::{runtime::Builder, time::timeout};

use crate::{
    contender::Stage,
    cpu::Cpu,
    options::{Action, Options},
    scenario::{SCENARIOS, Scenario},
};

/// How long the set-up of a scenario, and what a round has to do beyond its time, may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let options = Options::parse(env::args().skip(1))?;
    let chosen: Vec<_> = SCENARIOS.iter().filter(|scenario| options.wants(scenario.name)).collect();
    if options.action == Action::List {
        chosen.iter().for_each(|scenario| println!("{}: benchmark", scenario.name));
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On a worker, as everything else: the thread that blocks here would be a third one.
    runtime.block_on(async { tokio::spawn(run(chosen, options)).await? })
}

async fn run(chosen: Vec<&'static Scenario>, options: Options) -> anyhow::Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    let cpu = Cpu::new(server.process().ok().and_then(|process| process.id()));
    report::print_head();
    let mut goals = Vec::new();
    for scenario in chosen {
        let set_up = (scenario.set_up)(server.url().to_owned());
        let mut stage = timeout(PATIENCE, set_up).await.context("the set-up took too long")??;
        if let Some(who) = &options.who {
            stage.contenders.retain(|contender| contender.name == who);
        }
        let before = cpu.read();
        let played = play(&stage, &options, &cpu).await.context(scenario.name)?;
        let noise = cpu.noise_since(&before);
        timeout(PATIENCE, stage.close()).await.context("the end took too long")??;
        goals.extend(report::print(scenario, &stage.contenders, &played, noise));
    }
    report::print_goals(&goals);
    Ok(())
}

/// Lets the contenders take turns. Returns what each of them did in each round.
async fn play(stage: &Stage, options: &Options, cpu: &Cpu) -> anyhow::Result<Vec<Vec<report::Round>>> {
    let contenders = &stage.contenders;
    let mut played: Vec<_> = contenders.iter().map(|_| Vec::new()).collect();
    for contender in contenders {
        timeout(PATIENCE, contender.play(options.warm_up)).await.context("the warm-up took too long")??;
    }
    for round in 0..options.rounds {
        for turn in 0..contenders.len() {
            let number = (round + turn) % contenders.len();
            let before = cpu.read();
            let sample = timeout(options.seconds + PATIENCE, contenders[number].play(options.seconds));
            let sample =
                sample.await.with_context(|| format!("{} took too long", contenders[number].name))??;
            played[number].push(report::Round { cpu: cpu.used_since(&before), sample });
        }
    }
    Ok(played)
}
