//! What the doctor says of brokers that are well and of those that are not.

use anyhow::{Context as _, Result, ensure};
use purista_integration_tests::{
    nats::{NatsConfig, NatsServer},
    rabbitmq::RabbitServer,
};
use serde_json::Value;

use crate::program::run;

const CHECKS: [&str; 8] =
    ["TLS", "connect", "health", "capabilities", "call", "event", "delivery", "disconnect"];

/// Runs the doctor; returns its verdicts, without what it lists as not seen through a bridge.
async fn verdicts(url: &str, code: i32, told: &str) -> Result<Vec<(String, String)>> {
    let ended = run("", &["doctor", url, "--json"]).await?.must(code, told)?;
    let lines: Vec<Value> = ended.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (outcome, findings) = lines.split_last().context("an outcome")?;
    ensure!(outcome["outcome"] == if code == 0 { "ok" } else { "unhealthy" }, "{ended:?}");
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned).context("a text");
    let verdict = |finding: &Value| Ok((text(&finding["check"])?, text(&finding["verdict"])?));
    let all = findings.iter().map(verdict).collect::<Result<Vec<_>>>()?;
    ensure!(all.iter().any(|(check, verdict)| check == "clock" && verdict == "not checked"), "{ended:?}");
    for finding in findings.iter().filter(|finding| finding["verdict"] != "ok") {
        ensure!(finding["message"] != "", "{finding}");
    }
    Ok(all.into_iter().filter(|(check, _)| CHECKS.contains(&check.as_str())).collect())
}

/// Demands that each check is ok, but for these.
pub(crate) async fn is_well_but_for(url: &str, others: &[(&str, &str)]) -> Result<()> {
    let mut found = verdicts(url, 0, "").await?;
    // Each capability that is missing has a line.
    found.dedup();
    let expected: Vec<_> = CHECKS
        .map(|check| {
            let other = others.iter().find(|(name, _)| *name == check);
            (check.to_owned(), other.map_or("ok", |(_, verdict)| verdict).to_owned())
        })
        .into();
    ensure!(found == expected, "{found:?}");
    Ok(())
}

/// A broker that takes no messages connects all the same.
pub(crate) async fn sees_an_alarm(server: &RabbitServer) -> Result<()> {
    server.set_memory_alarm(true).await?;
    let found = verdicts(server.url(), 12, "unhealthy: ").await?;
    server.set_memory_alarm(false).await?;
    ensure!(found.iter().any(|(check, verdict)| check == "event" && verdict == "FAIL"), "{found:?}");
    ensure!(found.iter().any(|(check, verdict)| check == "connect" && verdict == "ok"), "{found:?}");
    is_well_but_for(server.url(), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_is_told_with_its_page() -> Result<()> {
    let permissions = r#"publish: { deny: "purista.>" }"#;
    let users = format!(
        "authorization {{ users: [ {{ user: ada, password: p, permissions: {{ {permissions} }} }} ] }}"
    );
    let server = NatsServer::start(NatsConfig::core().with_lines(users)).await?;
    let ended = run(server.url(), &["doctor"]).await?.must(12, "unhealthy: checks that failed: 1")?;
    for line in [
        "FAIL         connect: start on the nats bridge: credentials refused",
        "   crates/purista-nats/README.md#urls",
        "not checked  call: there is no connection",
    ] {
        ensure!(ended.stdout.contains(line), "{line}: {ended:?}");
    }
    let known = server.url().replace("nats://", "nats://ada:p@");
    let ended = run(&known, &["doctor"]).await?.must(12, "unhealthy: ")?;
    ensure!(ended.stdout.contains("FAIL         event: ") && !ended.stdout.contains(":p@"), "{ended:?}");
    let nobody = run("nats://127.0.0.1:1", &["doctor"]).await?.must(12, "unhealthy: ")?;
    ensure!(nobody.stdout.contains("Connection refused"), "{nobody:?}");
    run("", &["doctor", "default"]).await?.must(2, "within one process")?;
    run("", &["doctor"]).await?.must(2, "PURISTA_URL")?;
    Ok(())
}
