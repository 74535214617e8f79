//! Where the bridge connects and what it shows there, by its URL.

use std::net::Ipv6Addr;

use bytes::Buf;
use purista_conformance::{
    BrokerCertificate, ClientCertificate,
    urls::{Dialect, Shown, check},
};
use purista_core::{ErrorKind, EventBridge as _, Result};
use purista_integration_tests::{
    Certificates, FaultProxy, Step, Witness, free_port, mosquitto::MosquittoConfig,
};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};

use crate::support::{Place, echo, serve, started};

/// Hangs up when the client has said who it is.
async fn witness() -> Witness {
    let script = |sent: &[u8], _| if connect(sent).is_some() { Step::HangUp } else { Step::Wait };
    Witness::start(script).await.unwrap()
}

/// Returns what stands in the packet by which a client connects, once it is there.
fn connect(mut sent: &[u8]) -> Option<&[u8]> {
    if sent.len() < 2 {
        return None;
    }
    assert_eq!(sent.get_u8(), 0x10, "{sent:?}");
    let size = number(&mut sent)?;
    sent.get(..size)
}

/// Takes a number of variable length.
fn number(from: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for place in 0..4 {
        let byte = usize::from(from.try_get_u8().ok()?);
        number |= (byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}

/// Takes a text with its length before it.
fn text(from: &mut &[u8]) -> String {
    let length = usize::from(from.get_u16());
    String::from_utf8(from.copy_to_bytes(length).to_vec()).unwrap()
}

async fn shown(witness: &Witness, servers: &str) -> Result<Shown> {
    let bridge = MqttBridge::builder(servers).build()?;
    bridge.start().await.unwrap_err();
    let seen = witness.take();
    let mut packet = connect(&seen[0].bytes).unwrap();
    assert_eq!((text(&mut packet).as_str(), packet.get_u8()), ("MQTT", 5));
    let flags = packet.get_u8();
    packet.advance(2);
    let properties = number(&mut packet).unwrap();
    packet.advance(properties);
    let _client = text(&mut packet);
    let user = (flags & 0x80 != 0).then(|| text(&mut packet));
    let password = (flags & 0x40 != 0).then(|| text(&mut packet));
    assert!(!packet.has_remaining(), "{packet:?}");
    Ok(Shown { address: seen[0].address, user, password })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_url_is_met_as_it_is_written_or_refused() {
    let witness = witness().await;
    let dialect = Dialect {
        scheme: "mqtt",
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
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_asked_for_what_is_written() {
    let is_whole = |sent: &[u8]| sent.windows(4).any(|end| end == b"\r\n\r\n");
    let script = move |sent: &[u8], _| if is_whole(sent) { Step::HangUp } else { Step::Wait };
    let witness = Witness::start(script).await.unwrap();
    let long = format!("/p?token={}", "a".repeat(20_000));
    for (rest, target) in [
        ("", "/mqtt"),
        ("/", "/"),
        ("?token=s3cret", "/mqtt?token=s3cret"),
        (
            "/a//b/%2F%2f/../c?X-Amz-Signature=0a%2B+b,c;d&e=/?:",
            "/a//b/%2F%2f/../c?X-Amz-Signature=0a%2B+b,c;d&e=/?:",
        ),
        ("/mqtt?", "/mqtt?"),
        (&long, &long),
    ] {
        for (host, address) in [("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")] {
            let authority = format!("{host}:{}", witness.port());
            let bridge =
                MqttBridge::builder(format!("ws://ada:hidden-word@{authority}{rest}")).build().unwrap();
            let error = bridge.start().await.unwrap_err();
            assert!(!format!("{error:?} {error} {bridge:?}").contains("s3cret"), "{error:?}");
            let seen = witness.take();
            assert_eq!(seen[0].address.to_string(), address);
            let request = String::from_utf8(seen[0].bytes.clone()).unwrap();
            let mut lines = request.lines();
            assert_eq!(lines.next(), Some(format!("GET {target} HTTP/1.1").as_str()));
            assert!(lines.any(|line| line.eq_ignore_ascii_case(&format!("host: {authority}"))), "{request}");
            // Who connects is said over the WebSocket, not before it is there.
            assert!(
                !request.contains("hidden-word") && !request.to_lowercase().contains("authorization"),
                "{request}"
            );
        }
    }
}

async fn works(builder: MqttBridgeBuilder) {
    let bridge = started(builder).await;
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
        let place = Place::on(MosquittoConfig::stock().with_tls(&certificates).with_websockets()).await;
        let websocket = place.server.websocket_url().unwrap();
        let authority = websocket.trim_start_matches("wss://").split('/').next().unwrap();
        let websocket = authority.parse().unwrap();
        for (scheme, address) in [("mqtts", place.server.address()), ("wss", websocket)] {
            let proxy = FaultProxy::start_at(Ipv6Addr::LOCALHOST.into(), address).unwrap();
            for host in [proxy.address(), address] {
                let url = format!("{scheme}://{host}");
                let builder = MqttBridge::builder(&url).root_certificates(certificates.authority());
                match kind {
                    None => works(builder).await,
                    Some(kind) => {
                        let error = builder.build().unwrap().start().await.unwrap_err();
                        assert_eq!(error.kind(), kind, "{url}: {error:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_most_telling_one_is_told() {
    let strict = Place::on(MosquittoConfig::stock().with_user("ada", "pw")).await;
    let nobody = || format!("mqtt://127.0.0.1:{}", free_port().unwrap());
    for servers in [
        [nobody(), strict.server.url().to_owned(), nobody()],
        [strict.server.url().to_owned(), nobody(), nobody()],
    ] {
        let error = MqttBridge::builder(servers.join(",")).build().unwrap().start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        let told = format!("none of 3 servers can be used: this is of {}", strict.server.url());
        assert!(error.to_string().contains(&told), "{error}");
    }
}
