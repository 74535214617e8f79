//! Where the bridge connects and what it shows there, by its URL.

use std::net::IpAddr;

use bytes::Buf;
use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_conformance::urls::{Dialect, Shown, check};
use purista_core::{EventBridge as _, Result};
use purista_integration_tests::{
    Step, Witness,
    rabbitmq::RabbitConfig,
    urls::{check_certificates, check_most_telling},
};

use crate::support::{Place, echo, serve};

/// What the client sends before its first frame.
const PROTOCOL: usize = 8;

/// What stands in a frame beside its payload.
const FRAME: usize = 8;

const START: &[u8] = &[0, 10, 0, 10, 0, 9];
const TUNE: &[u8] = &[0, 10, 0, 30];

/// Greets and tunes like a broker, and hangs up when the client has opened its virtual host.
async fn witness() -> Witness {
    let start = [START, &long_text(b""), &long_text(b"PLAIN EXTERNAL"), &long_text(b"en_US")].concat();
    let tune = [TUNE, &[0, 100], &[0, 2, 0, 0], &[0, 60]].concat();
    let script = move |sent: &[u8], said| match (said, methods(sent).len()) {
        (0, _) if sent.len() >= PROTOCOL => Step::Say(frame(&start)),
        (1, 1) => Step::Say(frame(&tune)),
        (_, 3..) => Step::HangUp,
        _ => Step::Wait,
    };
    Witness::start(script).await.unwrap()
}

fn long_text(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn frame(method: &[u8]) -> Vec<u8> {
    [&[1, 0, 0], long_text(method).as_slice(), &[0xCE]].concat()
}

/// Returns the methods that a client sent, which are all of its connection.
fn methods(sent: &[u8]) -> Vec<&[u8]> {
    let mut rest = sent.get(PROTOCOL..).unwrap_or_default();
    let mut methods = Vec::new();
    while rest.len() >= FRAME {
        let size = usize::try_from((&rest[3..]).get_u32()).unwrap();
        if rest.len() < size + FRAME {
            break;
        }
        methods.push(&rest[7..7 + size]);
        rest = &rest[size + FRAME..];
    }
    methods
}

/// What a client showed: of its start-ok, tune-ok and open.
struct Opening {
    address: IpAddr,
    mechanism: String,
    response: Vec<u8>,
    heartbeat: u16,
    vhost: String,
}

async fn opening(witness: &Witness, builder: AmqpBridgeBuilder) -> Result<Opening> {
    builder.build()?.start().await.unwrap_err();
    let seen = witness.take();
    let [mut start, mut tune, mut open] = methods(&seen[0].bytes)[..] else { panic!("{seen:?}") };
    start.advance(4);
    take(&mut start, 4);
    let mechanism = String::from_utf8(take(&mut start, 1)).unwrap();
    let response = take(&mut start, 4);
    tune.advance(4 + 2 + 4);
    open.advance(4);
    let vhost = String::from_utf8(take(&mut open, 1)).unwrap();
    Ok(Opening { address: seen[0].address, mechanism, response, heartbeat: tune.get_u16(), vhost })
}

/// Takes what has its length before it.
fn take(from: &mut &[u8], width: usize) -> Vec<u8> {
    let length = usize::try_from(from.get_uint(width)).unwrap();
    from.copy_to_bytes(length).to_vec()
}

async fn shown(witness: &Witness, url: &str) -> Result<Shown> {
    let opening = opening(witness, AmqpBridge::builder(url)).await?;
    assert_eq!((opening.mechanism.as_str(), opening.vhost.as_str()), ("PLAIN", "/"));
    let response = String::from_utf8(opening.response).unwrap();
    let parts: Vec<_> = response.split('\0').collect();
    let ["", user, password] = parts[..] else { panic!("{response:?}") };
    let [user, password] = [user, password].map(|text| Some(text.to_owned()));
    Ok(Shown { address: opening.address, user, password })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_url_is_met_as_it_is_written_or_refused() {
    let witness = witness().await;
    let dialect = Dialect {
        scheme: "amqp",
        port: witness.port(),
        nobody: (Some("guest"), Some("guest")),
        has_user_info: true,
        is_list: true,
    };
    check(dialect, async |url| shown(&witness, &url).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_parameters_reach_the_broker() {
    let witness = witness().await;
    let url = |rest: &str| format!("amqp://ada:pw@[::1]:{}{rest}", witness.port());
    for (rest, vhost, heartbeat) in [
        ("", "/", 10),
        ("/%2F", "/", 10),
        ("/a%2Fb%20c+d,e", "a/b c+d,e", 10),
        ("/%C3%BC?heartbeat=30", "\u{fc}", 30),
        ("?connection_timeout=5000&heartbeat=7&auth_mechanism=plain", "/", 7),
    ] {
        let opening = opening(&witness, AmqpBridge::builder(url(rest))).await.unwrap();
        assert_eq!((opening.vhost.as_str(), opening.heartbeat), (vhost, heartbeat), "{rest}");
    }
    // What the builder is told counts.
    let builder =
        AmqpBridge::builder(url("/a?heartbeat=30")).vhost("b").keep_alive(std::time::Duration::from_secs(9));
    let opening = opening(&witness, builder.user_and_password("bob", "")).await.unwrap();
    assert_eq!((opening.vhost.as_str(), opening.heartbeat), ("b", 9));
    assert_eq!(opening.response, b"\0bob\0");
}

/// Starts a bridge and uses it.
async fn works(builder: AmqpBridgeBuilder) -> Result<()> {
    let bridge = builder.build()?;
    bridge.start().await?;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_those_of_the_host_that_is_written() {
    check_certificates(
        async |certificates| {
            let place = Place::own(RabbitConfig::default().with_tls(certificates)).await;
            let listeners = vec![("amqps", place.server.address())];
            (place, listeners)
        },
        async |url, authority| works(AmqpBridge::builder(url).root_certificates(authority)).await,
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_most_telling_one_is_told() {
    let place = Place::shared().await;
    let strict = format!("amqp://{}", place.server.address());
    check_most_telling(&strict, async |servers| {
        AmqpBridge::builder(servers).user_and_password("nobody", "wrong").build()?.start().await
    })
    .await
    .unwrap();
}
