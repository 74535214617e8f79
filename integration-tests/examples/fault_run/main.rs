//! Breaks a broker again and again under load, and tells what was lost and how fast all came back.
//!
//! ```text
//! cargo run --release -p purista-integration-tests --example fault_run -- nats
//! cargo run --release -p purista-integration-tests --example fault_run -- nats --cycles 100 --faults 1000 --seed 7
//! ```
//!
//! The report is in `target/fault-run/` too. The exit code is 1 if an event was lost that the broker had taken over, or
//! anything was stuck.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it found")]

mod nats;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use purista_integration_tests::fault_run::{Plan, Report, faults, kills};

use self::nats::Nats;

const USAGE: &str = "usage: fault_run nats [--cycles N] [--faults N] [--seed N]";

/// How long the broker waits for an acknowledgement: the adapter's default.
const ACK_WAIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match plan(env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("fault_run: {error:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(plan).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fault_run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn plan(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Plan> {
    match arguments.next().as_deref() {
        Some("nats") => {}
        Some(other) => bail!("there is no site for {other}"),
        None => bail!("which broker?"),
    }
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
    Ok(plan)
}

async fn run(plan: Plan) -> anyhow::Result<bool> {
    // Each part has a broker of its own: what the first one left must not help or harm the second.
    let site = Nats::start(ACK_WAIT).await?;
    let mut report = Report::new(site.broker().await?, plan);
    println!("{}, seed {}", report.broker, report.plan.seed);
    if report.plan.cycles > 0 {
        report.parts.push(kills(&site, &report.plan).await?);
        println!("\n{}", report.parts[0]);
    }
    drop(site);
    if report.plan.faults > 0 {
        let site = Nats::start(ACK_WAIT).await?;
        let part = faults(&site, &report.plan).await?;
        println!("\n{part}");
        report.parts.push(part);
    }
    write(&report)?;
    Ok(report.is_good())
}

fn write(report: &Report) -> anyhow::Result<()> {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("fault-run");
    fs::create_dir_all(&folder).context("folder of the report")?;
    let file = folder.join("nats.json");
    fs::write(&file, serde_json::to_string_pretty(report)? + "\n").context("report")
}
