//! Where the bridge connects and what it shows there, by its URL.

use purista_conformance::urls::{Dialect, Shown, check};
use purista_core::{EventBridge as _, Result};
use purista_integration_tests::{
    Step, Witness,
    nats::NatsConfig,
    urls::{check_certificates, check_most_telling},
};
use purista_nats::{NatsBridge, NatsBridgeBuilder};
use serde_json::Value;

use crate::support::{Place, echo, serve};

/// Greets like a server, and hangs up when the client has said who it is.
async fn witness() -> Witness {
    let greeting =
        b"INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"headers\":true,\"max_payload\":1024}\r\n";
    let script = |sent: &[u8], said| match said {
        0 => Step::Say(greeting.to_vec()),
        _ if sent.contains(&b'\n') => Step::HangUp,
        _ => Step::Wait,
    };
    Witness::start(script).await.unwrap()
}

async fn shown(witness: &Witness, servers: &str) -> Result<Shown> {
    let bridge = NatsBridge::builder(servers).build()?;
    bridge.start().await.unwrap_err();
    let seen = witness.take();
    let line = String::from_utf8(seen[0].bytes.clone()).unwrap();
    let json = line.strip_prefix("CONNECT ").and_then(|line| line.lines().next()).unwrap();
    let connect: Value = serde_json::from_str(json).unwrap();
    let text = |name: &str| connect[name].as_str().map(str::to_owned);
    let user = text("user").or_else(|| text("auth_token"));
    Ok(Shown { address: seen[0].address, user, password: text("pass") })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_url_is_met_as_it_is_written_or_refused() {
    let witness = witness().await;
    let dialect = Dialect {
        scheme: "nats",
        port: witness.port(),
        nobody: (None, None),
        has_user_info: true,
        is_list: true,
    };
    check(dialect, async |url| shown(&witness, &url).await).await.unwrap();
    // A user without a password is a token.
    let url = format!("t%2Fk@[::1]:{}", witness.port());
    assert_eq!(shown(&witness, &url).await.unwrap().user.as_deref(), Some("t/k"));
}

/// Starts a bridge and uses it.
async fn works(builder: NatsBridgeBuilder) -> Result<()> {
    let bridge = builder.build()?;
    bridge.start().await?;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_those_of_the_host_that_is_written() {
    check_certificates(
        async |certificates| {
            let place = Place::own(NatsConfig::core().with_tls(certificates)).await;
            let address = place.server.address();
            (place, vec![("tls", address), ("nats", address)])
        },
        async |url, authority| {
            let builder = NatsBridge::builder(url).without_jetstream().root_certificates(authority);
            // The server asks for TLS, whatever the URL says.
            works(if url.starts_with("nats:") { builder.require_tls() } else { builder }).await
        },
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_most_telling_one_is_told() {
    let strict = Place::own(NatsConfig::core().with_lines("authorization { token: x }")).await;
    check_most_telling(strict.server.url(), async |servers| {
        NatsBridge::builder(servers).build()?.start().await
    })
    .await
    .unwrap();
}
