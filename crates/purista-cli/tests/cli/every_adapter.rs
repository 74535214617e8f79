//! The same verbs with the same outcome over every adapter.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use purista_integration_tests::{
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
    mosquitto::{MosquittoConfig, MosquittoServer},
    nats::{NatsConfig, NatsServer},
    rabbitmq::{RabbitConfig, RabbitServer},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    doctor::{is_well_but_for, sees_an_alarm},
    program::{PATIENCE, Running, run, run_with},
    services::serve,
};

/// Calls, emits and watches at a broker: services are at one URL, and the command line is at another.
async fn all_verbs(services: &str, url: &str) -> Result<()> {
    let (bridge, mut happened) = serve(services).await?;

    let answer = run(url, &["call", "Math/1/double", "21"]).await?.must(0, "")?;
    ensure!(answer.stdout == "42\n", "{answer:?}");
    let answer = run("", &["call", "Math/1/double", "21", "--json", "--url", url]).await?.must(0, "")?;
    ensure!(answer.json()? == json!({ "outcome": "ok", "payload": 42 }), "{answer:?}");
    let echo = ["call", "Math/1/echo", "-", "--parameter", r#"{"loud":true}"#];
    let whose = ["--tenant", "acme", "--principal", "ada", "--trace-id", "t-1", "--timeout", "1m"];
    let answer = run_with(url, &[&echo[..], &whose].concat(), " {\"digits\": 1.10}\n").await?.must(0, "")?;
    let expected = json!([{ "digits": 1.1 }, { "loud": true }, "acme", "ada", "t-1"]);
    ensure!(serde_json::from_str::<serde_json::Value>(&answer.stdout)? == expected, "{answer:?}");

    let refused = run(url, &["call", "Math/1/refuse", "--json", "1"]).await?;
    let refused =
        refused.must(3, "handled: 404 Not Found: no\\u{a}such \\u{1b}[2Jnumber, data {\"digits\":2}")?;
    let expected = json!({
        "outcome": "handled", "status": 404, "message": "no\nsuch \u{1b}[2Jnumber", "data": { "digits": 2 },
    });
    ensure!(refused.json()? == expected, "{refused:?}");
    let failed =
        run(url, &["call", "Math/1/fail", "1"]).await?.must(4, "unhandled: 500 Internal Server Error")?;
    ensure!(failed.stdout.is_empty() && !failed.stderr.contains("secret"), "{failed:?}");
    let misfit = run(url, &["call", "Math/1/double", r#""x""#]).await?.must(3, "handled: 400 Bad Request")?;
    ensure!(misfit.stdout.is_empty(), "{misfit:?}");
    let nobody = run(url, &["call", "Math/2/double", "1", "--json"]).await?.must(5, "nobody: ")?;
    ensure!(nobody.json()?["outcome"] == "nobody", "{nobody:?}");
    run(url, &["call", "Math/1/think", "1", "--timeout", "300ms"]).await?.must(6, "timeout: ")?;

    let emitted =
        run(url, &["emit", "happened", r#"["x"]"#, "--tenant", "acme", "--principal", "ada"]).await?;
    ensure!(emitted.must(0, "")?.stdout.starts_with("emitted happened, id "));
    let seen = timeout(PATIENCE, happened.recv()).await?.context("an event")?;
    ensure!(seen == json!(["acme", "ada", ["x"]]), "{seen}");
    let emitted = run(url, &["emit", "happened", "--json"]).await?.must(0, "")?.json()?;
    ensure!(emitted["envelope"]["eventName"] == "happened", "{emitted}");
    bridge.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Watches events and error responses, which the services of a test give.
async fn watches(url: &str) -> Result<()> {
    let (bridge, _happened) = serve(url).await?;
    let mut events = Running::tail(url, &["--event", "happened", "--tenant", "acme", "--count", "2"]).await?;
    let errors = ["--type", "commandErrorResponse", "--sender-service", "Math", "--json", "--count", "1"];
    let mut errors = Running::tail(url, &errors).await?;
    for tenant in ["other", "acme", "acme"] {
        run(url, &["emit", "happened", r#"{"digits":1.10}"#, "--tenant", tenant]).await?.must(0, "")?;
    }
    for _ in 0..2 {
        let line = events.line().await?;
        let expected = r#" customMessage happened Client v1 main > - tenant acme {"digits":1.10}"#;
        ensure!(line.ends_with(expected), "{line}");
    }
    ensure!(events.ended().await? == (0, vec![]));
    run(url, &["call", "Math/1/refuse", "1"]).await?.must(3, "handled: 404")?;
    let line: serde_json::Value = serde_json::from_str(&errors.line().await?)?;
    ensure!(
        line["messageType"] == "commandErrorResponse" && line["sender"]["serviceTarget"] == "refuse",
        "{line}"
    );
    ensure!(line["payload"]["status"] == 404, "{line}");
    ensure!(errors.ended().await? == (0, vec![]));
    bridge.shutdown(Duration::from_secs(5)).await;

    // Who watches commands hides from callers that nobody serves them, and is told.
    let mut wide = Running::tail(url, &["--json", "--count", "1"]).await?;
    wide.until_told("nobody hears at once that a command is not served").await?;
    run(url, &["call", "Math/2/double", "1", "--timeout", "3s"]).await?.must(6, "timeout: ")?;
    let line: serde_json::Value = serde_json::from_str(&wide.line().await?)?;
    ensure!(line["messageType"] == "command" && line["receiver"]["serviceVersion"] == "2", "{line}");
    ensure!(wide.ended().await? == (0, vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats() -> Result<()> {
    for (config, less) in
        [(NatsConfig::jetstream(), &[][..]), (NatsConfig::core(), &[("capabilities", "WARN")])]
    {
        let server = NatsServer::start(config).await?;
        all_verbs(server.url(), server.url()).await?;
        watches(server.url()).await?;
        is_well_but_for(server.url(), less).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_mqtt() -> Result<()> {
    let server = MosquittoServer::start(MosquittoConfig::tuned()).await?;
    all_verbs(server.url(), server.url()).await?;
    watches(server.url()).await?;
    is_well_but_for(server.url(), &[]).await
}

/// And over Dapr, whose component is this RabbitMQ.
#[tokio::test(flavor = "multi_thread")]
async fn over_rabbitmq_and_dapr() -> Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    all_verbs(server.url(), server.url()).await?;
    watches(server.url()).await?;
    sees_an_alarm(&server).await?;
    let nobody = ["emit", "unheardOf", "1", "--must-route"];
    run(server.url(), &nobody).await?.must(5, "nobody: ")?;

    let (component, registry) = (Component::RabbitMq { url: server.url().to_owned() }, Registry::new()?);
    let mut sidecars = Vec::new();
    for app_id in ["app-math-v1", "app-caller-v1"] {
        sidecars.push(
            Sidecar::start(SidecarConfig::new(app_id, free_port()?, component.clone(), &registry)).await?,
        );
    }
    let [services, caller] = [0, 1].map(|index| format!("dapr://{}", sidecars[index].address()));
    all_verbs(&services, &caller).await?;
    run(&caller, &nobody).await?.must(9, "unsupported: ")?;
    // A sidecar delivers each message to one instance of its application.
    run(&caller, &["tail"]).await?.must(9, "does not support")?;
    // And calls go to the application that serves the command, which is not the one of this sidecar.
    let others = [("capabilities", "WARN"), ("call", "not checked"), ("delivery", "not checked")];
    is_well_but_for(&caller, &others).await?;
    Ok(())
}
