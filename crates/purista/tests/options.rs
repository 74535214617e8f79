//! The options of URLs of all adapters: each does what its setter does, and what cannot be is refused.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use purista::{
    Capability, Error, ErrorKind, Result,
    amqp::{AmqpBridge, AmqpBridgeBuilder, QueueType},
    core::adapter::Variables,
    dapr::{DaprBridge, DaprBridgeBuilder},
    in_process::{DefaultEventBridge, DefaultEventBridgeBuilder},
    mqtt::{MqttBridge, MqttBridgeBuilder},
    nats::{JetStreamConfig, NatsBridge, NatsBridgeBuilder},
};

/// An option as it is written, a value that it cannot have, and the setter that it stands for.
type Row<B> = (&'static str, &'static str, fn(B) -> B);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What every adapter has.
macro_rules! engine_rows {
    () => {
        [
            ("instance_id=a%2C%20b", "", |b| b.instance_id("a, b")),
            ("operation_timeout=2500ms", "2500", |b| b.operation_timeout(ms(2_500))),
            ("max_pending_calls=7", "+7", |b| b.max_pending_calls(7)),
            ("max_pending_emits=8", "-8", |b| b.max_pending_emits(8)),
            ("max_identity_len=9", "9.0", |b| b.max_identity_len(9)),
        ]
    };
}

/// What every adapter has that connects to servers.
macro_rules! server_rows {
    () => {
        [
            ("root_certificates=a%2Fca.pem", "", |b| b.root_certificates("a/ca.pem")),
            ("client_certificate=c%2C.pem,k.pem", "c.pem", |b| b.client_certificate("c,.pem", "k.pem")),
            ("prefix=ac+me", "a,b", |b| b.prefix("ac+me")),
            ("connect_timeout=3s", "3sec", |b| b.connect_timeout(ms(3_000))),
            ("keep_alive=2m", "2M", |b| b.keep_alive(ms(120_000))),
            ("max_reconnect_delay=1h", "h", |b| b.max_reconnect_delay(ms(3_600_000))),
            ("max_payload=4096", "4KiB", |b| b.max_payload(4_096)),
        ]
    };
}

/// Checks each row, that there is one for each option, and what all adapters refuse alike. `mark` stands before options.
fn check<B: Debug>(
    url: &str,
    mark: char,
    from_url: fn(&str) -> Result<B>,
    rows: &[Row<B>],
    secrets: &[&str],
) {
    let with = |options: &str| from_url(&format!("{url}{mark}{options}"));
    let refused = |options: &str| -> Error {
        let error = with(options).map(|builder| format!("{builder:?}")).expect_err(options);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url} {options}: {error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        error
    };
    let plain = format!("{:?}", from_url(url).unwrap());
    let mut names = BTreeSet::new();
    for (option, wrong, set) in rows {
        let (name, _) = option.split_once('=').unwrap();
        names.insert(name);
        let shown = format!("{:?}", with(option).expect(option));
        assert_eq!(shown, format!("{:?}", set(from_url(url).unwrap())), "{url} {option}");
        // What is secret is not shown, so that only its being there can be seen.
        assert_ne!(shown, plain, "{url} {option} changes nothing");
        let error = refused(&format!("{name}={wrong}"));
        assert!(error.to_string().contains(&format!("the option {name} of the URL is")), "{error}");
        refused(&format!("{option}&{option}"));
        assert!(!secrets.contains(&name) || !shown.contains("s3cret"), "{shown}");
    }
    let error = refused("prefx=s3cret").to_string();
    let (_, known) = error.split_once("known are ").expect(&error);
    let known: BTreeSet<_> = known.trim_end_matches(')').split(", ").collect();
    let own = ["heartbeat", "connection_timeout", "auth_mechanism"];
    let known: BTreeSet<_> = known.into_iter().filter(|name| !own.contains(name)).collect();
    assert_eq!(known, names, "{url}");
    for options in
        ["s3cret", "=s3cret", "INSTANCE_ID=s3cret", "instance_id", "instance_id=s3cret%zz", "instance_id=a b"]
    {
        refused(options);
    }
    // Several options are set whatever their order, and what is empty is nothing.
    let both = |text| format!("{:?}", with(text).unwrap());
    assert_eq!(both("instance_id=a&max_pending_calls=7"), both("&max_pending_calls=7&&instance_id=a&"));
    assert_eq!(both(""), plain);
}

#[test]
fn the_options_within_one_process() {
    let rows: [Row<DefaultEventBridgeBuilder>; _] = engine_rows!();
    check("default", '?', |url| DefaultEventBridgeBuilder::from_url(url), &rows, &[]);
    for url in ["default:", "default://host", "nats://host", "default#instance_id=a"] {
        assert_eq!(
            DefaultEventBridgeBuilder::from_url(url).unwrap_err().kind(),
            ErrorKind::InvalidConfig,
            "{url}"
        );
    }
    let _ = DefaultEventBridge::builder();
}

#[test]
fn the_options_of_nats() {
    macro_rules! jetstream {
        ($set:ident($value:expr)) => {
            |b| b.jetstream(JetStreamConfig::default().$set($value))
        };
    }
    let mut rows: Vec<Row<NatsBridgeBuilder>> = vec![
        ("nkey=s3cret", "", |b| b.nkey("other")),
        ("credentials_file=a.creds", "", |b| b.credentials_file("a.creds")),
        ("require_tls=true", "yes", |b| b.require_tls()),
        ("empty_part=none", "", |b| b.empty_part("none")),
        ("inbox_prefix=_IN", "", |b| b.inbox_prefix("_IN")),
        ("pending_limits=10,2048", "10", |b| b.pending_limits(10, 2_048)),
        ("without_jetstream=true", "1", |b| b.without_jetstream()),
        ("jetstream_max_bytes=1000", "1k", jetstream!(with_max_bytes(1_000))),
        ("jetstream_max_messages=11", "", jetstream!(with_max_messages(11))),
        ("jetstream_max_messages_per_subject=12", "", jetstream!(with_max_messages_per_subject(12))),
        ("jetstream_max_age=1h", "1", jetstream!(with_max_age(ms(3_600_000)))),
        ("jetstream_max_dead_letters=13", "", jetstream!(with_max_dead_letters(13))),
        ("jetstream_replicas=3", "three", jetstream!(with_replicas(3))),
        ("jetstream_duplicate_window=1m", "", jetstream!(with_duplicate_window(ms(60_000)))),
        ("jetstream_ack_wait=20s", "", jetstream!(with_ack_wait(ms(20_000)))),
    ];
    let engine: [Row<NatsBridgeBuilder>; _] = engine_rows!();
    let server: [Row<NatsBridgeBuilder>; _] = server_rows!();
    rows.extend(engine.into_iter().chain(server));
    for url in ["nats://one:4222", "one,two:4223", "nats://one,nats://two,three", "nats+tls://one"] {
        check(url, '?', |url| NatsBridgeBuilder::from_url(url), &rows, &["nkey"]);
    }
    let builder = |url| NatsBridgeBuilder::from_url(url);
    let shown = |url| format!("{:?}", builder(url).unwrap());
    assert_eq!(
        shown("nats://h?without_jetstream=false&require_tls=false"),
        format!("{:?}", NatsBridge::builder("nats://h"))
    );
    assert_eq!(
        shown("one,two?prefix=acme"),
        format!("{:?}", NatsBridge::builder("one,two").prefix("acme")),
        "the list stays"
    );
    for url in [
        "nats://ada:s3cret@host?nkey=s3cret",
        "host?nkey=s3cret&credentials_file=a",
        "host?jetstream_replicas=3&without_jetstream=true",
        "host?token=s3cret",
        // Options are behind the last server.
        "nats://one?prefix=s3cret,nats://two",
        "nats://one?prefix=s3cret,two",
        "nats://ada:s3c?ret=s3cret@host",
        "nats://host#prefix=s3cret",
    ] {
        let refused = builder(url).and_then(|builder| builder.build().map(drop));
        let error = refused.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn the_options_of_rabbitmq() {
    let mut rows: Vec<Row<AmqpBridgeBuilder>> = vec![
        ("typescript_topology=true", "on", |b| b.typescript_topology()),
        ("exchange_name=acme", "", |b| b.exchange_name("acme")),
        ("queue_type=classic", "Classic", |b| b.queue_type(QueueType::Classic)),
        ("max_queue_length=14", "4294967296", |b| b.max_queue_length(14)),
        ("max_dead_letters=15", "", |b| b.max_dead_letters(15)),
        ("check_interval=1s", "1", |b| b.check_interval(ms(1_000))),
        ("max_unconfirmed_bytes=16", "", |b| b.max_unconfirmed_bytes(16)),
    ];
    let engine: [Row<AmqpBridgeBuilder>; _] = engine_rows!();
    let server: [Row<AmqpBridgeBuilder>; _] = server_rows!();
    rows.extend(engine.into_iter().chain(server));
    for url in ["amqp://host", "amqps://one/v%2Fhost,amqps://two/v%2Fhost"] {
        check(url, '?', |url| AmqpBridgeBuilder::from_url(url), &rows, &[]);
    }
    // What the broker's own URLs can say stays, and comes in any order.
    let shown = |url| format!("{:?}", AmqpBridgeBuilder::from_url(url).unwrap());
    let set = |url: &str| format!("{:?}", AmqpBridge::builder(url).prefix("acme"));
    let own = "amqp://ada:pw@host/v?heartbeat=5&connection_timeout=1500";
    for (options, kept) in [
        ("amqp://ada:pw@host/v?heartbeat=5&prefix=acme&connection_timeout=1500", own),
        ("amqp://ada:pw@host/v?prefix=acme&heartbeat=5&connection_timeout=1500", own),
        ("amqps://host?auth_mechanism=external&prefix=acme", "amqps://host?auth_mechanism=external"),
        ("amqp://one?heartbeat=5,amqp://two?prefix=acme", "amqp://one?heartbeat=5,amqp://two"),
    ] {
        assert_eq!(shown(options), set(kept), "{options}");
    }
    for url in [
        "amqp://host?heartbeat=5&keep_alive=5s",
        "amqp://one?heartbeat=5,amqp://two?keep_alive=5s",
        "amqp://host?connection_timeout=5&connect_timeout=5s",
        "amqp://host?heartbeat=5&heartbeat=6",
        "amqp://host?heartbeat=s3cret",
        "amqp://one?prefix=s3cret,amqp://two",
        "amqp://host?vhost=s3cret",
    ] {
        let refused = AmqpBridgeBuilder::from_url(url).and_then(|builder| builder.build().map(drop));
        let error = refused.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn options_win_over_variables_and_variables_over_the_rest_of_the_url() {
    let variables =
        [("PURISTA_AMQP_PREFIX", "x"), ("PURISTA_AMQP_VHOST", "sales"), ("PURISTA_INSTANCE_ID", "a")];
    let variables: Variables = variables.into_iter().collect();
    let from = |url: &str| AmqpBridgeBuilder::from_url_and_variables(url, &variables);
    let set = AmqpBridge::builder("amqp://ada:pw@host/other").vhost("sales").prefix("acme").instance_id("a");
    let shown = format!("{:?}", from("amqp://ada:pw@host/other?prefix=acme").unwrap());
    assert_eq!(shown, format!("{set:?}"));
    let set = set.prefix("x").instance_id("b");
    assert_eq!(format!("{:?}", from("amqp://ada:pw@host/other?instance_id=b").unwrap()), format!("{set:?}"));
    // Servers from two places are not put together.
    let twice: Variables = [("PURISTA_AMQP_URL", "amqp://s3cret")].into_iter().collect();
    let error = AmqpBridgeBuilder::from_url_and_variables("amqp://host", &twice).unwrap_err();
    assert!(error.to_string().contains("beside a URL, PURISTA_AMQP_URL cannot be set"), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn the_options_of_mqtt() {
    let mut rows: Vec<Row<MqttBridgeBuilder>> = vec![
        ("share_name=group", "", |b| b.share_name("group")),
        ("share_prefix=%24queue", "", |b| b.share_prefix("$queue")),
        ("empty_part=none", "", |b| b.empty_part("none")),
        ("persistent_sessions=1h", "3600", |b| b.persistent_sessions(ms(3_600_000))),
        ("receive_maximum=17", "65536", |b| b.receive_maximum(17)),
        ("pending_limits=10,2048", "10,2048,1", |b| b.pending_limits(10, 2_048)),
    ];
    let engine: [Row<MqttBridgeBuilder>; _] = engine_rows!();
    let server: [Row<MqttBridgeBuilder>; _] = server_rows!();
    rows.extend(engine.into_iter().chain(server));
    let from_url = |url: &str| MqttBridgeBuilder::from_url(url);
    for (url, mark) in [
        ("mqtt://host", '?'),
        ("mqtts://one,mqtts://two", '?'),
        ("ws://one/p?a=1,mqtt://two", '?'),
        ("wss://host/mqtt", '#'),
        ("mqtt+wss://host/mqtt?X-Amz-Date=1&X-Amz-Signature=s3cret%2B,x+/?", '#'),
        ("mqtt://one,ws://two?token=a", '#'),
    ] {
        check(url, mark, from_url, &rows, &[]);
    }
    for url in [
        // The broker would get what is meant for the bridge.
        "ws://host/mqtt?prefix=s3cret",
        "wss://host?x=1&%70refix=s3cret",
        "ws://one?prefix=s3cret,ws://two#instance_id=a",
        "mqtt://host#prefix=s3cret",
        "ws://ada:s3cret#x@host",
        "ws://host#prefix=s3cret#",
    ] {
        let refused = from_url(url).and_then(|builder| builder.build().map(drop));
        let error = refused.expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    // Beyond doubt it is the broker's.
    from_url("ws://host/mqtt?prefix=a#").unwrap().build().unwrap();
    let _ = MqttBridge::builder("mqtt://host");
}

#[test]
fn the_options_of_dapr() {
    let mut rows: Vec<Row<DaprBridgeBuilder>> = vec![
        ("app_address=127.0.0.1:3000", "3000", |b| b.app_address(([127, 0, 0, 1], 3_000))),
        ("app_id=app-user-v1", "", |b| b.app_id("app-user-v1")),
        ("pubsub_name=bus", "", |b| b.pubsub_name("bus")),
        ("component_type=pubsub.redis", "", |b| b.component_type("pubsub.redis")),
        ("component_gives=DurableSubscriptions,DeadLetter", "durable", |b| {
            b.component_gives([Capability::DurableSubscriptions, Capability::DeadLetter])
        }),
        ("all_messages_topic=all", "", |b| b.all_messages_topic("all")),
        ("dead_letter_topic=dead", "", |b| b.dead_letter_topic("dead")),
        ("health_topic=health", "", |b| b.health_topic("health")),
        ("no_health_topic=true", "", |b| b.no_health_topic()),
        ("api_token=s3cret", "", |b| b.api_token("other")),
        ("app_token=s3cret", "", |b| b.app_token("other")),
        ("connect_timeout=3s", "3", |b| b.connect_timeout(ms(3_000))),
        ("keep_alive=2m", "m", |b| b.keep_alive(ms(120_000))),
        ("max_reconnect_delay=1h", "", |b| b.max_reconnect_delay(ms(3_600_000))),
        ("header_timeout=2h", "99999999999999999h", |b| b.header_timeout(ms(7_200_000))),
        ("max_payload=4096", "", |b| b.max_payload(4_096)),
    ];
    let engine: [Row<DaprBridgeBuilder>; _] = engine_rows!();
    rows.extend(engine);
    let from_url = |url: &str| DaprBridgeBuilder::from_url(url);
    check("dapr://localhost:3500", '?', from_url, &rows, &["api_token", "app_token"]);
    assert!(from_url("dapr://h?health_topic=a&no_health_topic=true").is_err());
    let _ = DaprBridge::builder("dapr://host");
}

#[test]
fn each_scheme_makes_its_bridge() {
    let table = [
        ("default", "default"),
        (" Default?instance_id=a ", "default"),
        ("default://", "default"),
        ("nats://host", "nats"),
        ("tls://host", "nats"),
        ("nats+tls://host?root_certificates=ca.pem", "nats"),
        ("one,two:4223?prefix=acme", "nats"),
        ("amqp://host", "amqp"),
        ("amqps://host", "amqp"),
        ("mqtt://host", "mqtt"),
        ("mqtts://host", "mqtt"),
        ("ws://host", "mqtt"),
        ("wss://host", "mqtt"),
        ("mqtt+ws://host", "mqtt"),
        ("mqtt+wss://host/mqtt?sig=x#prefix=acme", "mqtt"),
        ("dapr://host", "dapr"),
    ];
    for (url, name) in table {
        let bridge = purista::connect(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(bridge.name(), name, "{url}");
    }
    for url in [
        "",
        "redis://s3cret",
        "http://s3cret",
        "knative+http://s3cret",
        "eventbridge://eu?bus=s3cret",
        "nats://s3cret/x",
    ] {
        let error = purista::connect(url).map(drop).expect_err(url);
        assert!(error.kind() == ErrorKind::InvalidConfig && !error.to_string().contains("s3cret"), "{error}");
    }
}
