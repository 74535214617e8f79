//! How `tail` watches and ends.

use anyhow::{Result, ensure};
use purista_integration_tests::nats::{NatsConfig, NatsServer};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    program::{Running, run, run_unread},
    services::serve,
};

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_a_signal_and_when_nobody_reads() -> Result<()> {
    let server = NatsServer::start(NatsConfig::core()).await?;
    let url = server.url();
    for signal in [Signal::TERM, Signal::INT] {
        let mut tail = Running::tail(url, &["--event", "x"]).await?;
        run(url, &["emit", "x", "1"]).await?.must(0, "")?;
        tail.line().await?;
        tail.signal(signal)?;
        ensure!(tail.ended().await? == (0, vec![]));
    }
    // Without a message.
    let (mut tail, stdout) = Running::start_unread(url, &["tail", "--event", "x"])?;
    tail.until_told("watching on nats: event x").await?;
    drop(stdout);
    ensure!(tail.ended().await? == (0, vec![]));
    // While it prints more than fits into the pipe, and nobody reads: a signal ends it all the same.
    let (mut tail, stdout) = Running::start_unread(url, &["tail", "--event", "x"])?;
    tail.until_told("watching on nats: event x").await?;
    let large = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..3 {
        run(url, &["emit", "x", &large]).await?.must(0, "")?;
    }
    tail.signal(Signal::TERM)?;
    let (code, _) = tail.ended().await?;
    ensure!(code == 0, "{code}");
    drop(stdout);
    // The other verbs did what was asked for.
    let (_bridge, _) = serve(url).await?;
    for arguments in [&["call", "Math/1/double", "1"][..], &["emit", "x"], &["man"], &["--help"]] {
        let (code, told) = run_unread(url, arguments).await?;
        ensure!(code == 0 && told.is_empty(), "{arguments:?}: {code} {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_every_kind_of_message_and_filters_by_every_field() -> Result<()> {
    let server = NatsServer::start(NatsConfig::jetstream()).await?;
    let url = server.url();
    let (bridge, _happened) = serve(url).await?;
    let mut tail = Running::tail(url, &["--json", "--count", "4"]).await?;
    tail.until_told("--type leaves commands out").await?;
    let instance = bridge.instance_id().to_string();
    let sender = ["--sender-service", "Math", "--sender-version", "1", "--sender-target", "refuse"];
    let answers = [&sender[..], &["--sender-instance", &instance, "--receiver-service", "Client"]].concat();
    let whose = ["--tenant", "acme", "--principal", "ada", "--count", "1", "--type", "commandErrorResponse"];
    let mut answers = Running::tail(url, &[&answers[..], &whose].concat()).await?;
    let receiver = ["--receiver-service", "Math", "--receiver-version", "1", "--receiver-target", "refuse"];
    let calls = [&receiver[..], &["--receiver-instance", &instance, "--count", "1"]].concat();
    let mut calls = Running::tail(url, &calls).await?;

    for tenant in ["other", "acme"] {
        let whose = ["--tenant", tenant, "--principal", "ada", "--instance", &instance];
        run(url, &[&["call", "Math/1/refuse", "1"][..], &whose].concat()).await?.must(3, "handled: 404")?;
    }
    let mut types = Vec::new();
    for _ in 0..4 {
        let line: Value = serde_json::from_str(&tail.line().await?)?;
        types.push(line["messageType"].to_string());
    }
    types.sort_unstable();
    ensure!(types[..2] == ["\"command\""; 2] && types[2..] == ["\"commandErrorResponse\""; 2], "{types:?}");
    ensure!(tail.ended().await? == (0, vec![]));
    let line = answers.line().await?;
    ensure!(
        line.contains(" commandErrorResponse - Math v1 refuse > Client v1 main tenant acme principal ada "),
        "{line}"
    );
    let line = calls.line().await?;
    ensure!(line.contains(" command - Client v1 main > Math v1 refuse tenant other "), "{line}");
    ensure!(answers.ended().await?.0 == 0 && calls.ended().await?.0 == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_what_is_missed_and_goes_on() -> Result<()> {
    let server = NatsServer::start(NatsConfig::core()).await?;
    let url = server.url();
    let mut tail = Running::tail(url, &["--event", "x", "--count", "1"]).await?;
    server.process()?.kill().await?;
    tail.until_told("connection lost: what is sent from now on is missed").await?;
    run(url, &["emit", "x"]).await?.must(7, "unreachable: ")?;
    server.process()?.start_again().await?;
    tail.until_told("connected again").await?;
    run(url, &["emit", "x", "7"]).await?.must(0, "")?;
    let line = tail.line().await?;
    ensure!(line.ends_with(" 7"), "{line}");
    ensure!(tail.ended().await? == (0, vec![]));
    Ok(())
}
