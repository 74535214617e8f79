//! Whom the server lets in, and what it lets them do. Encryption is proved by the conformance suite.

use std::{
    future::ready,
    time::{Duration, Instant},
};

use purista_core::{Credentials, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter};
use purista_integration_tests::{
    mosquitto::MosquittoConfig,
    vault::{Vault, what_gives_nothing_is_a_failed_connect},
};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};

use crate::support::{PATIENCE, Place, echo, eventually, in_order, invoke, serve, started, watch};

const SECRET: &str = "s3cret p@ss/%";

async fn is_refused(builder: MqttBridgeBuilder) {
    let timeout = Duration::from_secs(5);
    let bridge = builder.connect_timeout(timeout).build().unwrap();
    let began = Instant::now();
    let error = bridge.start().await.unwrap_err();
    assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    for shown in [format!("{error:?}"), format!("{bridge:?}")] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_are_shown() {
    let place = Place::on(MosquittoConfig::stock().with_user("ada", SECRET)).await;
    started(place.builder().user_and_password("ada", SECRET)).await;
    let url = |login: &str| place.server.url().replace("//", &format!("//{login}@"));
    started(MqttBridge::builder(url("ada:s3cret%20p%40ss%2F%25"))).await;
    // What the builder is told later counts.
    started(MqttBridge::builder(url("ada:wrong")).user_and_password("ada", SECRET)).await;
    is_refused(place.builder().user_and_password("ada", "s3cret of another")).await;
    is_refused(place.builder().user_and_password("bob", SECRET)).await;
    is_refused(place.builder()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_access_list_denies_is_forbidden() {
    let acl = "user ada\ntopic readwrite purista/#\ntopic deny purista/custom_message/+/+/+/+/+/+/secret/#\n\
               topic deny purista/command/+/+/+/+/+/+/+/+/vault/#\n";
    let config = MosquittoConfig::stock().with_user("ada", SECRET).with_acl(acl);
    let place = Place::on(config).await;
    let builder = || place.builder().user_and_password("ada", SECRET);
    let (bridge, service) = (started(builder()).await, started(builder()).await);
    let seen = watch(&bridge, "reader", Filter::any(), in_order()).await.unwrap();
    serve(&service, ("Vault", "1", "open"), echo()).await;
    serve(&service, ("Greeter", "1", "greet"), echo()).await;

    let error = bridge.event("secret").timeout(PATIENCE).emit(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error:?}");
    let draft =
        purista_core::CommandDraft::new(purista_core::ServiceAddress::client(), ("Vault", "1", "open"));
    let error = invoke(&bridge, draft).await.unwrap_err();
    assert_eq!(error.bridge_kind(), Some(ErrorKind::Forbidden), "{error:?}");
    // The rest goes on, over the same connection.
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    bridge.event("happened").timeout(PATIENCE).emit("sentinel").await.unwrap();
    seen.sentinel("\"sentinel\"").await.unwrap();
    assert!(!seen.payloads().contains(&"1".to_owned()));
    assert!(bridge.health().is_healthy());
}

/// Mosquitto ends the connections of a user who is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_asked_again_when_the_password_is_replaced() {
    let place = Place::on(MosquittoConfig::stock().with_user("ada", SECRET)).await;
    let vault = Vault::new("ada", SECRET);
    let bridge = started(place.builder().credentials_provider(vault.provider())).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    vault.seal("the vault is sealed");
    place.server.replace_users(&[("bob", "b")]).await.unwrap();
    eventually("health tells why", || {
        let health = bridge.health();
        !health.connected && health.reason.is_some_and(|reason| reason.contains("the vault is sealed"))
    })
    .await;
    place.server.replace_users(&[("ada", "another s3cret")]).await.unwrap();
    vault.replace("another s3cret");
    eventually("all is well again", || bridge.health().is_healthy()).await;
    assert_eq!(bridge.health().reason, None);
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    assert!(!format!("{bridge:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_gives_nothing_is_a_failed_connect() {
    let place = Place::on(MosquittoConfig::stock().with_user("ada", SECRET)).await;
    what_gives_nothing_is_a_failed_connect("ada", |provider, patience| {
        place.builder().connect_timeout(patience).credentials_provider(provider).build().unwrap()
    })
    .await
    .unwrap();
    let token = || ready(Ok(Credentials::token("s3cret")));
    let refused = place.builder().credentials_provider(token).build().unwrap().start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused:?}");
}
