//! Whom the server lets in. Encryption and permissions are proved by the conformance suite.

use std::{fs, future::ready};

use nkeys::KeyPair;
use purista_core::{Credentials, ErrorKind, EventBridge as _, EventBridgeExt as _};
use purista_integration_tests::{
    nats::NatsConfig,
    vault::{Vault, what_gives_nothing_is_a_failed_connect},
};
use purista_nats::NatsBridgeBuilder;

use crate::{
    jwt::Identities,
    support::{PATIENCE, Place, echo, health_is, is_well, serve, started},
};

const SECRET: &str = "s3cret p@ss:word/%";

async fn works(builder: NatsBridgeBuilder) {
    let bridge = started(builder).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    bridge.shutdown(PATIENCE).await;
}

async fn is_refused(builder: NatsBridgeBuilder, kind: ErrorKind) {
    let bridge = builder.build().unwrap();
    let error = bridge.start().await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    for shown in [format!("{error:?}"), format!("{bridge:?}")] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

async fn server(authorization: &str) -> Place {
    Place::own(NatsConfig::core().with_lines(format!("authorization {{ {authorization} }}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_shown() {
    let place = server(&format!("token: \"{SECRET}\"")).await;
    works(place.builder().token(SECRET)).await;
    let encoded = "s3cret%20p%40ss%3Aword%2F%25";
    works(place.builder_for(&place.server.url().replace("//", &format!("//{encoded}@")))).await;
    is_refused(place.builder().token("s3cret of another"), ErrorKind::Unauthenticated).await;
    is_refused(place.builder(), ErrorKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_may_be_in_the_url() {
    let place = server(&format!("user: \"ada l\", password: \"{SECRET}\"")).await;
    let url = |login: &str| place.server.url().replace("//", &format!("//{login}@"));
    works(place.builder_for(&url("ada%20l:s3cret%20p%40ss%3Aword%2F%25"))).await;
    works(place.builder().user_and_password("ada l", SECRET)).await;
    // What the builder is told later counts.
    works(place.builder_for(&url("ada:wrong")).user_and_password("ada l", SECRET)).await;
    is_refused(place.builder_for(&url("ada%20l:s3cret")), ErrorKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nkeys_prove_who_one_is() {
    let (right, wrong) = (KeyPair::new_user(), KeyPair::new_user());
    let place = server(&format!("users: [ {{ nkey: {} }} ]", right.public_key())).await;
    works(place.builder().nkey(right.seed().unwrap())).await;
    is_refused(place.builder().nkey(wrong.seed().unwrap()), ErrorKind::Unauthenticated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_files_prove_who_one_is() {
    let (right, wrong) = (Identities::create(), Identities::create());
    let place = Place::own(right.server()).await;
    let folder = place.server.process().unwrap().folder().to_owned();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    works(place.builder().credentials_file(file("right.creds", &right.credentials))).await;
    let of_another = file("wrong.creds", &wrong.credentials);
    is_refused(place.builder().credentials_file(of_another), ErrorKind::Unauthenticated).await;
    let malformed = file("malformed.creds", "s3cret, but no credentials");
    is_refused(place.builder().credentials_file(malformed), ErrorKind::InvalidConfig).await;
    is_refused(place.builder().credentials_file(folder.join("missing.creds")), ErrorKind::InvalidConfig)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_asked_again_when_the_password_is_replaced() {
    let with = |user: &str, password: &str| {
        let users = format!("authorization {{ users: [ {{ user: {user}, password: \"{password}\" }} ] }}");
        NatsConfig::core().with_lines(users)
    };
    let place = Place::own(with("ada", SECRET)).await;
    let vault = Vault::new("ada", SECRET);
    let bridge = started(place.builder().credentials_provider(vault.provider())).await;
    serve(&bridge, ("Greeter", "1", "greet"), echo()).await;
    place.server.reload(&with("bob", "b")).await.unwrap();
    // First it is the server that refuses, then the vault.
    for (why, is_sealed) in [("authorization", false), ("the vault is sealed", true)] {
        if is_sealed {
            vault.seal(why);
        }
        health_is("health tells why", &bridge, |health| {
            !health.connected && health.reason.as_ref().is_some_and(|reason| reason.contains(why))
        })
        .await;
    }
    place.server.reload(&with("ada", "another s3cret")).await.unwrap();
    vault.replace("another s3cret");
    is_well(&bridge).await;
    assert_eq!(bridge.health().reason, None);
    let greeting: String = bridge.invoke(("Greeter", "1", "greet"), "hello").await.unwrap();
    assert_eq!(greeting, "hello");
    assert!(!format!("{bridge:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_gives_nothing_is_a_failed_connect() {
    let place = server(&format!("user: ada, password: \"{SECRET}\"")).await;
    what_gives_nothing_is_a_failed_connect("ada", |provider, patience| {
        place.builder().connect_timeout(patience).credentials_provider(provider).build().unwrap()
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_give_a_token() {
    let place = server(&format!("token: \"{SECRET}\"")).await;
    works(place.builder().credentials_provider(|| ready(Ok(Credentials::token(SECRET))))).await;
}
