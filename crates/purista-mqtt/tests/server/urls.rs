//! Where the bridge connects and what it shows there, by its URL.

use bytes::Buf;
use purista_conformance::urls::{Dialect, Shown, check};
use purista_core::{EventBridge as _, Result};
use purista_integration_tests::{
    Step, Witness,
    mosquitto::MosquittoConfig,
    urls::{check_certificates, check_most_telling},
};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};

use crate::support::{Place, echo, serve};

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
    check(dialect, async |url| shown(&witness, &url).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_asked_for_what_is_written() {
    let witness = Witness::http().await.unwrap();
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

/// Starts a bridge and uses it.
async fn works(builder: MqttBridgeBuilder) -> Result<()> {
    let bridge = builder.build()?;
    bridge.start().await?;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_those_of_the_host_that_is_written() {
    check_certificates(
        async |certificates| {
            let config = MosquittoConfig::stock().with_tls(certificates).with_websockets();
            let place = Place::on(config).await;
            let websocket = place.server.websocket_url().unwrap();
            let authority = websocket.trim_start_matches("wss://").split('/').next().unwrap();
            let listeners = vec![("mqtts", place.server.address()), ("wss", authority.parse().unwrap())];
            (place, listeners)
        },
        async |url, authority| works(MqttBridge::builder(url).root_certificates(authority)).await,
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_most_telling_one_is_told() {
    let strict = Place::on(MosquittoConfig::stock().with_user("ada", "pw")).await;
    check_most_telling(strict.server.url(), async |servers| {
        MqttBridge::builder(servers).build()?.start().await
    })
    .await
    .unwrap();
}
