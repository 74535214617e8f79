//! Where the bridge connects and what it shows there, by its URL.

use std::net::Ipv6Addr;

use purista_conformance::{
    BrokerCertificate, ClientCertificate,
    urls::{Dialect, Shown, check},
};
use purista_core::{ErrorKind, EventBridge as _, Result};
use purista_integration_tests::{Certificates, FaultProxy, Step, Witness, free_port, nats::NatsConfig};
use purista_nats::{NatsBridge, NatsBridgeBuilder};
use serde_json::Value;

use crate::support::{Place, echo, serve, started};

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
    check(dialect, |url| {
        let witness = &witness;
        async move { shown(witness, &url).await }
    })
    .await
    .unwrap();
    // A user without a password is a token.
    let url = format!("t%2Fk@[::1]:{}", witness.port());
    assert_eq!(shown(&witness, &url).await.unwrap().user.as_deref(), Some("t/k"));
}

async fn works(builder: NatsBridgeBuilder) {
    let bridge = started(builder.without_jetstream()).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_those_of_the_host_that_is_written() {
    for (certificate, kind) in [
        (BrokerCertificate::Trusted, None),
        (BrokerCertificate::OtherHost, Some(ErrorKind::Tls)),
        (BrokerCertificate::OtherAuthority, Some(ErrorKind::Tls)),
    ] {
        let certificates = Certificates::create(certificate, ClientCertificate::NotAsked).unwrap();
        let place = Place::own(NatsConfig::core().with_tls(&certificates)).await;
        let proxy = FaultProxy::start_at(Ipv6Addr::LOCALHOST.into(), place.server.address()).unwrap();
        let port = proxy.address().port();
        let urls = [format!("tls://[::1]:{port}"), format!("tls://{}", place.server.address())];
        for url in urls {
            let builder = NatsBridge::builder(&url).root_certificates(certificates.authority());
            match kind {
                None => works(builder).await,
                Some(kind) => {
                    let error = builder.build().unwrap().start().await.unwrap_err();
                    assert_eq!(error.kind(), kind, "{url}: {error:?}");
                }
            }
        }
        if kind.is_none() {
            // The server asks for it, whatever the URL says.
            let builder = NatsBridge::builder(format!("nats://[::1]:{port}"));
            works(builder.require_tls().root_certificates(certificates.authority())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_most_telling_one_is_told() {
    let strict = Place::own(NatsConfig::core().with_lines("authorization { token: x }")).await;
    let nobody = || format!("nats://127.0.0.1:{}", free_port().unwrap());
    for servers in [
        [nobody(), strict.server.url().to_owned(), nobody()],
        [strict.server.url().to_owned(), nobody(), nobody()],
    ] {
        let error = NatsBridge::builder(servers.join(",")).build().unwrap().start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        let told = format!("none of 3 servers can be used: this is of {}", strict.server.url());
        assert!(error.to_string().contains(&told), "{error}");
    }
}
