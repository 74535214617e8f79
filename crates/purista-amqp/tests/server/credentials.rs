//! Whom the broker lets in. Encryption and permissions are proved by the conformance suite.

use std::future::ready;

use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_core::{Credentials, ErrorKind, EventBridge as _, EventBridgeExt as _};
use purista_integration_tests::vault::{Vault, what_gives_nothing_is_a_failed_connect};

use crate::support::{PATIENCE, Place, echo, eventually, serve, started};

const SECRET: &str = "s3cret p@ss:word/%";

async fn works(builder: AmqpBridgeBuilder) {
    let bridge = started(builder).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    bridge.shutdown(PATIENCE).await;
}

async fn is_refused(builder: AmqpBridgeBuilder, kind: ErrorKind) {
    let bridge = builder.build().unwrap();
    let error = bridge.start().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    for shown in [format!("{error:?}"), format!("{error}"), format!("{bridge:?}")] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

/// A user of its own, who may do everything in the virtual host of the place.
async fn with_user() -> (Place, String) {
    let place = Place::shared().await;
    let (management, user) = (place.server.management(), format!("ada {}", place.vhost));
    management.put_user(&user, SECRET).await.unwrap();
    management.set_permissions(&place.vhost, &user, ".*", ".*", ".*").await.unwrap();
    (place, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_may_be_in_the_url() {
    let (place, user) = with_user().await;
    let (address, user_in_url) = (place.server.address(), user.replace(' ', "%20"));
    let url = |password: &str| format!("amqp://{user_in_url}:{password}@{address}/{}", place.vhost);
    works(AmqpBridge::builder(url("s3cret%20p%40ss%3Aword%2F%25"))).await;
    // What the builder is told later counts.
    works(AmqpBridge::builder(url("wrong")).user_and_password(&user, SECRET)).await;
    works(place.builder().user_and_password(&user, SECRET)).await;
    is_refused(AmqpBridge::builder(url("s3cret")), ErrorKind::Unauthenticated).await;
    is_refused(place.builder().user_and_password("nobody", SECRET), ErrorKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_that_is_not_there_or_not_ours_is_told() {
    let (place, user) = with_user().await;
    is_refused(place.builder().vhost("nowhere"), ErrorKind::Forbidden).await;
    is_refused(AmqpBridge::builder(place.server.url_of("nowhere")), ErrorKind::Forbidden).await;
    let another = Place::shared().await;
    let as_ada = |place: &Place| place.builder().user_and_password(&user, SECRET);
    is_refused(as_ada(&another), ErrorKind::Forbidden).await;
    works(as_ada(&another).vhost(&place.vhost)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_virtual_hosts_may_have_any_letters() {
    let place = Place::shared().await;
    let vhost = format!("/a b%2f\u{fc}/{}", place.vhost);
    place.server.management().create_vhost(&vhost).await.unwrap();
    works(place.builder().vhost(&vhost)).await;
    works(AmqpBridge::builder(place.server.url_of(&vhost))).await;
}

/// Begins to configure a bridge by a URL that says nothing of who it is.
fn without_user(place: &Place) -> AmqpBridgeBuilder {
    AmqpBridge::builder(format!("amqp://{}/{}", place.server.address(), place.vhost))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_asked_again_when_the_password_is_replaced() {
    let (place, user) = with_user().await;
    let management = place.server.management();
    let vault = Vault::new(&user, SECRET);
    let bridge = started(without_user(&place).credentials_provider(vault.provider())).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    vault.seal("the vault is sealed");
    management.put_user(&user, "another s3cret").await.unwrap();
    eventually("connections are closed", async || {
        management.close_connections(&place.vhost).await.unwrap() > 0
    })
    .await;
    eventually("health tells why", async || {
        let health = bridge.health();
        !health.connected && health.reason.is_some_and(|reason| reason.contains("the vault is sealed"))
    })
    .await;
    vault.replace("another s3cret");
    eventually("all is well again", async || bridge.health().is_healthy()).await;
    assert_eq!(bridge.health().reason, None);
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    assert!(!format!("{bridge:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_gives_nothing_is_a_failed_connect() {
    let (place, user) = with_user().await;
    what_gives_nothing_is_a_failed_connect(&user, |provider, patience| {
        without_user(&place).connect_timeout(patience).credentials_provider(provider).build().unwrap()
    })
    .await
    .unwrap();
    let token = || ready(Ok(Credentials::token("s3cret")));
    is_refused(without_user(&place).credentials_provider(token), ErrorKind::InvalidConfig).await;
}
