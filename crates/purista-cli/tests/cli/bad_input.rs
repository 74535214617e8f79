//! What cannot be is told in a line, with an exit code of its own.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use purista_integration_tests::nats::{NatsConfig, NatsServer};

use crate::program::{run, run_with};

/// Returns a URL at which nobody is: a port that no other test gets as a free one.
fn at_nobody(scheme: &str) -> String {
    format!("{scheme}://127.0.0.1:1")
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_refused_before_anything_is_sent() -> Result<()> {
    // Nobody is there: what got as far would be told as unreachable.
    let url = at_nobody("nats");
    let folder = tempfile::tempdir()?;
    let file = |name: &str, content: &[u8]| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, content)?;
        Ok(format!("@{}", path.to_str().context("a path")?))
    };
    let folder_itself = format!("@{}", folder.path().to_str().context("a path")?);
    let no_json = file("no.json", b"{\"name\": Ada}")?;
    let no_text = file("no.txt", b"\"\xff\"")?;
    let empty = file("empty.json", b"")?;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (arguments, told) in [
        (&["call", "Math/1", "1"][..], "Service/version/command"),
        (&["call", "Math/1/", "1"], "Service/version/command"),
        (&["call", "Math/1/double/x", "1"], "Service/version/command"),
        (&["call", "", "1"], "Service/version/command"),
        (&["call", "Math/1/double", "Ada"], "usage: payload: invalid message (the text is not JSON)"),
        (&["call", "Math/1/double", ""], "the text is not JSON"),
        (&["call", "Math/1/double", "1 2"], "the text is not JSON"),
        (&["call", "Math/1/double", "NaN"], "the text is not JSON"),
        (&["call", "Math/1/double", &deep], "nested too deep"),
        (&["call", "Math/1/double", "-"], "the text is not JSON"),
        (&["call", "Math/1/double", "-", "--parameter", "-"], "both"),
        (&["call", "Math/1/double", "1", "--parameter", "x"], "usage: parameter: invalid message"),
        (&["call", "Math/1/double", "@"], "cannot be read"),
        (&["call", "Math/1/double", "@/no/such/file"], "the file /no/such/file cannot be read"),
        (&["call", "Math/1/double", &folder_itself], "cannot be read"),
        (&["emit", "x", &no_json], "the text is not JSON"),
        (&["emit", "x", &no_text], "cannot be read"),
        (&["emit", "x", &empty], "the text is not JSON"),
        (&["emit", "", "1"], "a value is required"),
        (&["emit", "x", "1", "--tenant", ""], "a value is required"),
        (&["emit", "x", "1", "--timeout", "5"], "500ms, 5s, 2m or 1h"),
        (&["emit", "x", "1", "--timeout", "0s"], "more than nothing"),
        (&["emit", "x", "1", "--timeout", "25h"], "at most 24h"),
        (&["emit", "x", "1", "--timeout", "-1s"], "unexpected argument"),
        (&["tail", "--count", "0"], "not in 1.."),
        (&["tail", "--type", "error"], "commandErrorResponse"),
        (&["tail", "--tenant", ""], "a value is required"),
        (&["man", "kill"], "there is no command kill"),
        (&["completions", "cmd"], "invalid value"),
        (&["emit", "x", "--url", "default"], "within one process"),
        (&["emit", "x", "--url", ""], "is empty"),
        (&["emit", "x", "--url", "redis://host"], "no adapter has URLs of this scheme"),
        (&["emit", "x", "--url", "http://host"], "dapr://host:3500"),
        (&["emit", "x", "--url", "kubemq://host"], "not there yet"),
        (&["emit", "x", "--url", "nats://host?prefixes=a"], "known are"),
        (&["emit", "x", "--url", "mqtt://host?keep_alive=5"], "keep_alive"),
        (&["tail", "--url", "amqp://host?prefix="], "prefix"),
    ] {
        let ended = run(&url, arguments).await?.must(2, told).with_context(|| format!("{arguments:?}"))?;
        ensure!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    let told = run(&url, &["emit", "x", "{", "--json"]).await?.must(2, "usage: ")?.json()?;
    ensure!(told["outcome"] == "usage", "{told}");
    run("", &["emit", "x"]).await?.must(2, "PURISTA_URL")?;
    run("default", &["emit", "x"]).await?.must(2, "within one process")?;
    // A secret is not repeated.
    let secret = run(&url, &["emit", "x", "--url", "nats://ada:secret@host?secret=secret"])
        .await?
        .must(2, "known are")?;
    ensure!(!secret.stderr.contains("secret"), "{secret:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_or_refuses_has_its_exit_code() -> Result<()> {
    for scheme in ["nats", "amqp", "mqtt", "dapr"] {
        let url = at_nobody(scheme);
        let ended = run(&url, &["emit", "x", "--json"]).await?.must(7, "unreachable: ")?;
        ensure!(ended.json()?["outcome"] == "unreachable", "{ended:?}");
        // The cause is told.
        ensure!(ended.stderr.contains("refused"), "{ended:?}");
        run(&url, &["call", "Math/1/double", "1"]).await?.must(7, "unreachable: ")?;
    }
    run(&at_nobody("nats"), &["tail"]).await?.must(7, "unreachable: ")?;

    let server = NatsServer::start(NatsConfig::jetstream().with_lines("authorization { token: x }")).await?;
    run(server.url(), &["emit", "x"]).await?.must(8, "credentials refused")?;
    let known = server.url().replace("nats://", "nats://x@");
    run_with(&known, &["emit", "x", "-"], "1").await?.must(0, "")?;
    let too_long = "x".repeat(300);
    run(&known, &["emit", "x", "--tenant", &too_long]).await?.must(10, "over the limit of 255")?;
    let limited = format!("{known}?max_payload=10");
    run(&limited, &["emit", "x", "\"0123456789\""]).await?.must(10, "over the limit of 10")?;
    // JetStream cannot tell whether somebody gets an event.
    run(&known, &["emit", "x", "--must-route"]).await?.must(9, "does not support")?;
    run(&known, &["call", "Math/1/double", "1", "--instance", "nobody"]).await?.must(5, "nobody: ")?;
    Ok(())
}
