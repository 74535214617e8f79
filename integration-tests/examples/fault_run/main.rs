//! Breaks a broker again and again under load, and tells what was lost and how fast all came back.
//!
//! ```text
//! cargo run --release -p purista-integration-tests --example fault_run -- nats
//! cargo run --release -p purista-integration-tests --example fault_run -- nats --cycles 100 --faults 1000 --seed 7
//! cargo run --release -p purista-integration-tests --example fault_run -- amqp
//! cargo run --release -p purista-integration-tests --example fault_run -- amqp-typescript
//! cargo run --release -p purista-integration-tests --example fault_run -- mqtt
//! cargo run --release -p purista-integration-tests --example fault_run -- dapr
//! ```
//!
//! The report is in `target/fault-run/` too. The exit code is 1 if an event was lost that the broker had taken over, or
//! anything was stuck. A broker that may lose events at a kill is also restarted without one, which may cost nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it found")]

mod amqp;
mod dapr;
mod mqtt;
mod nats;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use purista_integration_tests::fault_run::{PartReport, Plan, Report, Site, faults, kills, restarts};

use self::{amqp::Amqp, dapr::Dapr, mqtt::Mqtt, nats::Nats};

const USAGE: &str =
    "usage: fault_run nats|amqp|amqp-typescript|mqtt|dapr [--cycles N] [--faults N] [--seed N]";

/// How long NATS waits for an acknowledgement: the adapter's default.
const ACK_WAIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let (broker, plan) = match plan(env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("fault_run: {error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(broker, plan).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fault_run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A kind of broker, and how bridges use it.
#[derive(Clone, Copy, Debug)]
enum Broker {
    Nats,
    Amqp,
    AmqpTypeScript,
    Mqtt,
    Dapr,
}

impl Broker {
    const ALL: [Self; 5] = [Self::Nats, Self::Amqp, Self::AmqpTypeScript, Self::Mqtt, Self::Dapr];

    const fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Amqp => "amqp",
            Self::AmqpTypeScript => "amqp-typescript",
            Self::Mqtt => "mqtt",
            Self::Dapr => "dapr",
        }
    }

    /// Starts one; returns its name with its version, too.
    async fn start(self) -> anyhow::Result<(Box<dyn Site>, String)> {
        Ok(match self {
            Self::Nats => {
                let nats = Nats::start(ACK_WAIT).await?;
                let broker = nats.broker().await?;
                (Box::new(nats), broker)
            }
            Self::Amqp | Self::AmqpTypeScript => {
                let amqp = Amqp::start(matches!(self, Self::AmqpTypeScript)).await?;
                let broker = amqp.broker().await?;
                (Box::new(amqp), broker)
            }
            Self::Mqtt => {
                let mqtt = Mqtt::start().await?;
                let broker = mqtt.broker()?;
                (Box::new(mqtt), broker)
            }
            Self::Dapr => {
                let dapr = Dapr::start().await?;
                let broker = dapr.broker().await?;
                (Box::new(dapr), broker)
            }
        })
    }
}

fn plan(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<(Broker, Plan)> {
    let name = arguments.next().context("which broker?")?;
    let broker = Broker::ALL.into_iter().find(|broker| broker.name() == name);
    let broker = broker.with_context(|| format!("there is no site for {name}"))?;
    let mut plan = Plan::new(rand::random());
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} without a value"))?;
        let number = value.parse().with_context(|| format!("{flag} {value}"))?;
        match flag.as_str() {
            "--cycles" => plan.cycles = number as usize,
            "--faults" => plan.faults = number as usize,
            "--seed" => plan.seed = number,
            _ => bail!("{flag} is not known"),
        }
    }
    Ok((broker, plan))
}

async fn run(broker: Broker, plan: Plan) -> anyhow::Result<bool> {
    // Each part has a broker of its own: what the first one left must not help or harm the second.
    let (mut site, name) = broker.start().await?;
    let mut report = Report::new(name, plan);
    println!("{}, seed {}", report.broker, report.plan.seed);
    if report.plan.cycles > 0 {
        if site.loses_at_a_kill() {
            let part = restarts(&*site, &report.plan).await?;
            note(&mut report, part);
            (site, _) = broker.start().await?;
        }
        let part = kills(&*site, &report.plan).await?;
        note(&mut report, part);
    }
    drop(site);
    if report.plan.faults > 0 {
        let (site, _name) = broker.start().await?;
        let part = faults(&*site, &report.plan).await?;
        note(&mut report, part);
    }
    write(broker, &report)?;
    Ok(report.is_good())
}

fn note(report: &mut Report, part: PartReport) {
    println!("\n{part}");
    report.parts.push(part);
}

fn write(broker: Broker, report: &Report) -> anyhow::Result<()> {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("fault-run");
    fs::create_dir_all(&folder).context("folder of the report")?;
    let file = folder.join(format!("{}.json", broker.name()));
    fs::write(&file, serde_json::to_string_pretty(report)? + "\n").context("report")
}
