//! What is left of a broker when its test process is killed.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use purista_integration_tests::{Process, nats::NatsServer, rabbitmq::RabbitServer};
use rustix::process::{Pid, test_kill_process};

/// Tells the test that it is the process that is killed.
const VICTIM: &str = "PURISTA_TEST_VICTIM";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn nats_goes_with_a_test_process_that_is_killed() -> anyhow::Result<()> {
    goes_with_its_process("nats_goes_with_a_test_process_that_is_killed", async || {
        Ok(NatsServer::shared(true).await?.process()?.clone())
    })
}

#[test]
fn rabbitmq_goes_with_a_test_process_that_is_killed() -> anyhow::Result<()> {
    goes_with_its_process("rabbitmq_goes_with_a_test_process_that_is_killed", async || {
        Ok(RabbitServer::shared().await?.process()?.clone())
    })
}

/// Runs the test of this name in another process, which holds a broker, and kills that.
fn goes_with_its_process(
    test: &str,
    start: impl AsyncFnOnce() -> anyhow::Result<Process>,
) -> anyhow::Result<()> {
    if env::var_os(VICTIM).is_some() {
        return hold(start);
    }
    let mut victim = Command::new(env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, "1")
        .env_remove("PURISTA_NATS_URL")
        .env_remove("PURISTA_AMQP_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(victim.stdout.take().context("no output")?).lines();
    let told: Vec<_> = lines.map_while(Result::ok).filter(|line| line.starts_with("held ")).take(1).collect();
    let told = told.first().context("it holds nothing")?;
    let (broker, folder) = told.trim_start_matches("held ").split_once(' ').context("no folder")?;
    let broker = Pid::from_raw(broker.parse()?).context("no process")?;
    ensure!(test_kill_process(broker).is_ok() && Path::new(folder).is_dir());

    victim.kill()?;
    victim.wait()?;
    gone("broker", || test_kill_process(broker).is_err())?;
    gone("folder", || !Path::new(folder).exists())
}

/// Is the victim: tells what it holds, and waits to be killed.
#[expect(clippy::print_stdout, reason = "the other process reads it")]
fn hold(start: impl AsyncFnOnce() -> anyhow::Result<Process>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let process = runtime.block_on(start())?;
    println!("\nheld {} {}", process.id().context("does not run")?, process.folder().display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn gone(what: &str, is_gone: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_gone() {
        ensure!(began.elapsed() < PATIENCE, "the {what} is still there");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
