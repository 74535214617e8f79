//! Permissions that an operator changes while bridges are connected.

use std::time::Duration;

use purista_core::{
    BridgeEvent, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, Health, MessageType,
    SubscriptionOptions,
};
use purista_integration_tests::nats::NatsConfig;
use purista_nats::NatsBridge;
use tokio::time::{Instant, timeout};

use crate::support::{
    BOUND, PATIENCE, Place, durable, echo, health_is, is_well, names, reaches, serve, started, watch, within,
};

/// A server with two users: a bridge, whose permissions change, and one who may do everything.
struct Changing {
    place: Place,
    base: NatsConfig,
}

impl Changing {
    async fn new(base: NatsConfig) -> Self {
        let place = Place::own(Self::with(&base, "")).await;
        Self { place, base }
    }

    fn with(base: &NatsConfig, permissions: &str) -> NatsConfig {
        base.clone().with_lines(format!(
            "authorization {{ users: [ {{ user: bridge, password: p, permissions: {{ {permissions} }} }}, \
             {{ user: other, password: p }} ] }}"
        ))
    }

    /// Changes the permissions of the bridge.
    async fn allow(&self, permissions: &str) {
        self.place.server.reload(&Self::with(&self.base, permissions)).await.unwrap();
    }

    async fn reload(&self, lines: &str) {
        self.place.server.reload(&self.base.clone().with_lines(lines)).await.unwrap();
    }

    async fn bridge(&self, user: &str) -> NatsBridge {
        started(self.place.builder().user_and_password(user, "p")).await
    }

    fn subject(&self, rest: &str) -> String {
        format!("{}.{rest}", self.place.prefix)
    }
}

async fn greets(caller: &NatsBridge, service: &str) {
    let call = caller.invoke::<String>((service, "1", "greet"), "hello");
    assert_eq!(timeout(BOUND, call).await.unwrap().unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_back_when_the_right_to_subscribe_does() {
    for base in [NatsConfig::core(), NatsConfig::jetstream()] {
        let changing = Changing::new(base).await;
        let bridge = changing.bridge("bridge").await;
        let caller = changing.bridge("other").await;
        serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
        greets(&caller, "Greeter").await;
        let denied = changing.subject("command.>");
        for _round in 0..2 {
            changing.allow(&format!("subscribe: {{ deny: {denied:?} }}")).await;
            names(&bridge, ("Greeter", "1", "greet")).await;
            let refused = caller.invoke::<String>(("Greeter", "1", "greet"), "hello").await.unwrap_err();
            assert_eq!(refused.bridge_kind(), Some(ErrorKind::NoHandler), "{refused:?}");
            assert!(bridge.health().connected);
            changing.allow("").await;
            is_well(&bridge).await;
            greets(&caller, "Greeter").await;
        }
    }
}

/// The client keeps 128 of the server's words, and drops the rest unheard.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_come_back_of_which_most_refusals_are_not_heard() {
    const COMMANDS: usize = 300;
    let changing = Changing::new(NatsConfig::core()).await;
    let bridge = changing.bridge("bridge").await;
    let caller = changing.bridge("other").await;
    for number in 0..COMMANDS {
        serve(&bridge, (format!("Greeter{number}").as_str(), "1", "greet"), echo()).await;
    }
    changing.allow(&format!("subscribe: {{ deny: {:?} }}", changing.subject("command.>"))).await;
    let all = |health: &Health| health.not_consuming.len() == COMMANDS;
    health_is("health names all commands", &bridge, all).await;
    changing.allow("").await;
    is_well(&bridge).await;
    for number in 0..COMMANDS {
        greets(&caller, &format!("Greeter{number}")).await;
    }
}

/// The same for who may not ask the server what it knows.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_come_back_where_the_server_tells_nothing() {
    const COMMANDS: usize = 100;
    let changing = Changing::new(NatsConfig::core()).await;
    let silent = "publish: { deny: \"$SYS.>\" }";
    changing.allow(silent).await;
    let bridge = changing.bridge("bridge").await;
    let caller = changing.bridge("other").await;
    for number in 0..COMMANDS {
        serve(&bridge, (format!("Greeter{number}").as_str(), "1", "greet"), echo()).await;
    }
    let denied = format!("{silent}, subscribe: {{ deny: {:?} }}", changing.subject("command.>"));
    changing.allow(&denied).await;
    let all = |health: &Health| health.not_consuming.len() == COMMANDS;
    health_is("health names all commands", &bridge, all).await;
    changing.allow(silent).await;
    is_well(&bridge).await;
    for number in 0..COMMANDS {
        greets(&caller, &format!("Greeter{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_jetstream_comes_back() {
    let changing = Changing::new(NatsConfig::core()).await;
    let bridge = changing.bridge("bridge").await;
    let emitter = changing.bridge("other").await;
    let options = SubscriptionOptions::default();
    let filter = Filter::message_type(MessageType::CustomMessage).with_event_name("happened");
    let seen = watch(&bridge, "all", filter, options).await.unwrap();
    let denied = format!("subscribe: {{ deny: {:?} }}", changing.subject("custom_message.>"));
    // Also when it is back before anybody could look.
    for waits in [true, false] {
        changing.allow(&denied).await;
        if waits {
            names(&bridge, ("Watcher", "1", "all")).await;
        }
        changing.allow("").await;
        is_well(&bridge).await;
        let sentinel = format!("back {waits}");
        let text = format!("\"{sentinel}\"");
        let deadline = Instant::now() + BOUND;
        while !seen.payloads().contains(&text) {
            assert!(Instant::now() < deadline, "nothing comes: {:?}", bridge.health());
            emitter.event("happened").timeout(PATIENCE).emit(&sentinel).await.unwrap();
        }
    }
}

/// What is taken away from a durable subscription, and back.
async fn a_subscription_comes_back(what: &str, deny: impl Fn(&Changing) -> String) {
    let changing = Changing::new(NatsConfig::jetstream()).await;
    let bridge = changing.bridge("bridge").await;
    let emitter = changing.bridge("other").await;
    let options = durable().with_max_concurrency(2);
    let seen = watch(&bridge, "all", Filter::event("happened"), options).await.unwrap();
    let emit = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            emitter.event("happened").timeout(PATIENCE).emit(&number).await.unwrap();
        }
    };
    emit(0..5).await;
    reaches(5, || seen.count()).await;
    changing.allow(&deny(&changing)).await;
    // What the server has been asked for already still comes.
    emit(5..10).await;
    health_is(&format!("{what} shows"), &bridge, |health| {
        !health.connected || health.not_consuming.contains(&("Watcher", "1", "all").into())
    })
    .await;
    changing.allow("").await;
    is_well(&bridge).await;
    emit(10..15).await;
    let payloads = || (0..15).filter(|number| seen.payloads().contains(&number.to_string())).count();
    reaches(15, payloads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_comes_back_when_the_right_to_pull_does() {
    a_subscription_comes_back("no pulling", |_| {
        "publish: { deny: \"$JS.API.CONSUMER.MSG.NEXT.>\" }".to_owned()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_comes_back_when_the_right_to_acknowledge_does() {
    a_subscription_comes_back("no acknowledgements", |_| "publish: { deny: \"$JS.ACK.>\" }".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_comes_back_when_the_right_to_its_inbox_does() {
    a_subscription_comes_back("no inbox", |_| "subscribe: { deny: \"_INBOX.>\" }".to_owned()).await;
    a_subscription_comes_back("no publishing to inboxes", |_| "publish: { deny: \"_INBOX.>\" }".to_owned())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_show_that_no_answers_come() {
    let changing = Changing::new(NatsConfig::core()).await;
    let bridge = changing.bridge("bridge").await;
    let service = changing.bridge("other").await;
    serve(&service, ("Greeter", "1", "greet"), echo()).await;
    greets(&bridge, "Greeter").await;
    changing.allow("subscribe: { deny: \"_INBOX.>\" }").await;
    health_is("no answers come", &bridge, |health| !health.connected).await;
    changing.allow("").await;
    is_well(&bridge).await;
    greets(&bridge, "Greeter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_comes_back_without_the_right_to_look_at_streams() {
    let changing = Changing::new(NatsConfig::jetstream()).await;
    let bridge = changing.bridge("bridge").await;
    let emitter = changing.bridge("other").await;
    let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
    emitter.event("happened").timeout(PATIENCE).emit(&0).await.unwrap();
    reaches(1, || seen.count()).await;
    changing.allow("publish: { deny: [\"$JS.API.STREAM.INFO.>\"] }").await;
    changing.place.server.process().unwrap().kill().await.unwrap();
    health_is("the loss is noticed", &bridge, |health| !health.connected).await;
    changing.place.server.process().unwrap().start_again().await.unwrap();
    is_well(&bridge).await;
    emitter.event("happened").timeout(PATIENCE).emit(&1).await.unwrap();
    reaches(2, || seen.count()).await;
    // A registration, which has to look, says what is missing.
    let refused = watch(&bridge, "more", Filter::event("happened"), durable()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused:?}");
    assert!(refused.to_string().contains("STREAM.INFO"), "{refused}");
    changing.allow("").await;
    watch(&bridge, "more", Filter::event("happened"), durable()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_was_removed_comes_back() {
    let changing = Changing::new(NatsConfig::jetstream()).await;
    let bridge = changing.bridge("bridge").await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let caller = changing.bridge("other").await;
    changing.reload("authorization { users: [ { user: other, password: p } ] }").await;
    health_is("the user is gone", &bridge, |health| !health.connected).await;
    changing.allow("").await;
    is_well(&bridge).await;
    greets(&caller, "Greeter").await;
}

/// A user moves to an account that has none of its streams.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_moves_to_another_account_goes_on_there() {
    let base = NatsConfig::jetstream();
    let accounts = |of_bridge: &str| {
        let users = |account: &str, more: &str| {
            format!(
                "{account} {{ jetstream: enabled, users: [ {{ user: in{account}, password: p }} {more} ] }}"
            )
        };
        let bridge = ", { user: bridge, password: p }";
        let more = |account: &str| if account == of_bridge { bridge } else { "" };
        format!("accounts {{\n{}\n{}\n}}", users("A", more("A")), users("B", more("B")))
    };
    let place = Place::own(base.clone().with_lines(accounts("A"))).await;
    let connect = async |user: &str| started(place.builder().user_and_password(user, "p")).await;
    let bridge = connect("bridge").await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let seen = watch(&bridge, "all", Filter::event("happened"), durable()).await.unwrap();
    let mut events = bridge.events();
    place.server.reload(&base.with_lines(accounts("B"))).await.unwrap();
    let there = connect("inB").await;
    within("the server ends the connection", async {
        while !matches!(events.next().await.unwrap(), BridgeEvent::Disconnected(_)) {}
    })
    .await;
    is_well(&bridge).await;
    greets(&there, "Greeter").await;
    there.event("happened").timeout(PATIENCE).emit("there").await.unwrap();
    timeout(PATIENCE, seen.sentinel("\"there\"")).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_at_the_start_is_refused_at_once() {
    for (permissions, names) in [
        ("subscribe: { deny: \"_INBOX.>\" }", "_INBOX"),
        ("publish: { deny: \"_INBOX.>\" }", "inbox"),
        ("publish: { deny: \"$JS.API.STREAM.INFO.>\" }", "STREAM.INFO"),
        ("publish: { deny: \"$JS.API.STREAM.CREATE.>\" }", "STREAM.CREATE"),
    ] {
        let place = Place::own(Changing::with(&NatsConfig::jetstream(), permissions)).await;
        let bridge = place.builder().user_and_password("bridge", "p").build().unwrap();
        let began = Instant::now();
        let refused = bridge.start().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{permissions}: {refused:?}");
        assert!(refused.to_string().contains(names), "{permissions}: {refused}");
        assert!(began.elapsed() < Duration::from_secs(9), "{permissions}: {:?}", began.elapsed());
    }
}
