//! URLs and lists of servers: what is malformed is refused, and passwords are never shown.

use std::{fmt::Debug, net::IpAddr};

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_core::{
    Error, ErrorKind,
    adapter::{ServerUrl, UrlScheme},
};
use purista_dapr::{DaprBridge, DaprBridgeBuilder};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};
use purista_nats::{NatsBridge, NatsBridgeBuilder};
use secrecy::ExposeSecret as _;

use crate::{Verdict, input};

/// Marks what must not be seen.
const SECRET: &str = "SECRET-5e1f";

type Check = fn(&str) -> bool;

/// The schemes, and who takes them; and one that nobody does.
const SCHEMES: [(&str, Check); 14] = [
    ("nats", nats),
    ("tls", nats),
    ("amqp", amqp),
    ("amqps", amqp),
    ("mqtt", mqtt),
    ("mqtts", mqtt),
    ("ws", mqtt),
    ("wss", mqtt),
    ("dapr", dapr),
    ("http", dapr),
    ("redis", nats),
    ("redis", amqp),
    ("redis", mqtt),
    ("redis", dapr),
];

/// Checks one input. The first field is a list of servers as it is. The others make a URL with a password: user, password,
/// host and the rest.
pub fn run(data: &[u8]) -> Verdict {
    let fields: Vec<String> = input::texts(data).take(5).collect();
    if fields.iter().any(|field| field.contains(SECRET)) {
        // It would be no secret.
        return Verdict::Refused;
    }
    let list = fields.first().map_or("", String::as_str);
    let mut is_accepted = [nats(list), amqp(list), mqtt(list), dapr(list)].contains(&true);
    if let [_, user, password, host, rest] = &fields[..] {
        is_accepted |= is_met_as_written(user, password, &format!("{host}{rest}"));
        // What ends the authority would make a path of the password, which is no secret.
        let user: String = user.chars().filter(|character| !"/?#\\".contains(*character)).collect();
        for (scheme, check) in SCHEMES {
            let url = format!("{scheme}://{user}:{SECRET}{password}@{host}{rest}");
            // Parts that make the mark once more when they are joined are no secret.
            is_accepted |= url.matches(SECRET).count() == 1 && check(&url);
        }
    }
    Verdict::accepted(is_accepted)
}

/// Each part of a URL is met exactly as it is written, or it is refused.
fn is_met_as_written(user: &str, password: &str, rest: &str) -> bool {
    const PORT: u16 = 5_672;
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let text = format!("amqp://{}:{}@{rest}", encoded(user), encoded(password));
    let Ok(url) = ServerUrl::parse(&text, &[UrlScheme::plain("amqp", PORT)]) else { return false };
    let who = url.user_info().expect("it is written");
    assert_eq!(who.user, user);
    assert_eq!(who.password.as_ref().map(|secret| secret.expose_secret()), Some(password));
    let written = rest.trim_end().split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match written.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (written, Some(PORT)),
    };
    assert_eq!(Some(url.port()), port, "{text}");
    let host = host.trim_matches(['[', ']']);
    let is_same_address = || host.parse::<IpAddr>().is_ok_and(|address| address.to_string() == url.host());
    assert!(host == url.host() || is_same_address(), "{text} {}", url.host());
    true
}

fn nats(servers: &str) -> bool {
    with_options(&NatsBridgeBuilder::from_url(servers));
    look_at(&NatsBridge::builder(servers), |builder| builder.build().map(drop))
}

fn amqp(servers: &str) -> bool {
    with_options(&AmqpBridgeBuilder::from_url(servers));
    look_at(&AmqpBridge::builder(servers), |builder| builder.build().map(drop))
}

fn mqtt(servers: &str) -> bool {
    with_options(&MqttBridgeBuilder::from_url(servers));
    look_at(&MqttBridge::builder(servers), |builder| builder.build().map(drop))
}

fn dapr(servers: &str) -> bool {
    with_options(&DaprBridgeBuilder::from_url(servers));
    look_at(&DaprBridge::builder(servers), |builder| {
        // A client for HTTP takes long to make; a pub/sub component without a name is refused before.
        match builder.pubsub_name("").build() {
            Err(error) if format!("{error:?}").contains("names of a component") => Ok(()),
            other => other.map(drop),
        }
    })
}

/// The same with options behind the last server: they are set, or refused.
fn with_options<B: Debug>(builder: &Result<B, Error>) {
    let kind = builder.as_ref().err().map_or(ErrorKind::InvalidConfig, Error::kind);
    let shown = format!("{builder:?}");
    assert!(kind == ErrorKind::InvalidConfig && !shown.contains(SECRET), "{shown}");
}

fn look_at<B: Clone + Debug>(builder: &B, build: impl Fn(B) -> Result<(), Error>) -> bool {
    let shown = format!("{builder:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    match build(builder.clone()) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
            false
        }
    }
}
