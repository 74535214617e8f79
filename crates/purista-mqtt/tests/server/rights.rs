//! Rights that are taken away under a live connection.

use std::time::Duration;

use purista_core::{CommandDraft, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, ServiceAddress};
use purista_integration_tests::mosquitto::MosquittoConfig;
use purista_mqtt::MqttBridge;
use tokio::time::{Instant, interval};

use crate::support::{PATIENCE, Place, echo, in_order, invoke_within, serve, started, watch};

const ALL: &str = "user ada\ntopic readwrite purista/#\nuser bob\ntopic readwrite purista/#\n";

/// Within which time it is told, and told to be over.
const BOUND: Duration = Duration::from_secs(12);

const GREET: (&str, &str, &str) = ("Greeter", "1", "greet");
const READER: (&str, &str, &str) = ("Watcher", "1", "reader");

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    let mut poll = interval(Duration::from_millis(20));
    while !holds() {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        poll.tick().await;
    }
}

/// A service, whose rights change, and somebody who uses it.
struct Service {
    place: Place,
    service: MqttBridge,
    caller: MqttBridge,
    seen: std::sync::Arc<purista_conformance::Collector>,
}

impl Service {
    async fn begin() -> Self {
        let config = MosquittoConfig::stock().with_user("ada", "a").with_user("bob", "b").with_acl(ALL);
        let place = Place::on(config).await;
        let service = started(place.builder().user_and_password("ada", "a")).await;
        let caller = started(place.builder().user_and_password("bob", "b")).await;
        serve(&service, GREET, echo()).await;
        let seen = watch(&service, "reader", Filter::event("happened"), in_order()).await.unwrap();
        let service = Self { place, service, caller, seen };
        service.works().await;
        service
    }

    async fn works(&self) {
        let greeting: String = self.caller.invoke(GREET, "hello").await.unwrap();
        assert_eq!(greeting, "hello");
        let before = self.seen.count();
        self.caller.event("happened").timeout(PATIENCE).emit(&before).await.unwrap();
        self.seen.at_least(before + 1).await.unwrap();
    }

    /// The health names these, and is well again by itself once the rights are back.
    async fn names(&self, acl: &str, named: &[(&str, &str, &str)]) {
        let mut expected: Vec<_> = named.iter().map(|&address| ServiceAddress::from(address)).collect();
        expected.sort();
        self.place.server.replace_acl(acl).await.unwrap();
        until(&format!("{named:?} are named"), || {
            let mut not_consuming = self.service.health().not_consuming;
            not_consuming.sort();
            not_consuming == expected
        })
        .await;
        assert!(self.service.health().connected);
        self.place.server.replace_acl(ALL).await.unwrap();
        until("it is well again", || self.service.health().is_healthy()).await;
        self.works().await;
        assert!(self.caller.health().is_healthy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_to_read_that_are_taken_away_are_told_by_registration() {
    let service = Service::begin().await;
    let bob = "user bob\ntopic readwrite purista/#\n";
    let write_only = format!("user ada\ntopic write purista/#\n{bob}");
    service.names(&write_only, &[GREET, READER]).await;
    let no_commands = format!("user ada\ntopic readwrite purista/#\ntopic deny purista/command/#\n{bob}");
    service.names(&no_commands, &[GREET]).await;
    let no_events = format!(
        "user ada\ntopic readwrite purista/#\ntopic deny purista/custom_message/+/+/+/+/+/+/happened/#\n{bob}"
    );
    service.names(&no_events, &[READER]).await;
    service.names(bob, &[GREET, READER]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_answer_that_is_taken_away_is_told() {
    let service = Service::begin().await;
    let acl = "user ada\ntopic read purista/#\ntopic write purista/custom_message/#\ntopic write purista/command/#\n\
               user bob\ntopic readwrite purista/#\n";
    service.names(acl, &[GREET]).await;
}

/// Mosquitto ends the connections of a user who is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_removed_and_comes_back_is_told() {
    let service = Service::begin().await;
    service.place.server.replace_users(&[("bob", "b")]).await.unwrap();
    until("it is not healthy", || !service.service.health().is_healthy()).await;
    let draft = CommandDraft::new(ServiceAddress::client(), GREET);
    let error = invoke_within(&service.caller, draft, PATIENCE).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::NoHandler), "{error:?}");
    service.place.server.replace_users(&[("ada", "a"), ("bob", "b")]).await.unwrap();
    until("it is well again", || service.service.health().is_healthy()).await;
    service.works().await;
}
