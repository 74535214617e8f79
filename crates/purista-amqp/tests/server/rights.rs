//! Rights that are taken away under a live connection, and given back.

use std::time::Duration;

use purista_amqp::AmqpBridge;
use purista_core::{
    EmitOptions, ErrorKind, EventBridge as _, EventBridgeExt as _, EventDraft, Filter, ServiceAddress,
};
use purista_integration_tests::rabbitmq::Management;

use crate::support::{PATIENCE, Place, durable, eventually, started, watch};

struct User {
    place: Place,
    name: String,
}

impl User {
    async fn new() -> Self {
        let place = Place::shared().await;
        let user = Self { name: format!("ada {}", place.vhost), place };
        user.exists("password").await;
        user
    }

    fn management(&self) -> &Management {
        self.place.server.management()
    }

    async fn exists(&self, password: &str) {
        self.management().put_user(&self.name, password).await.unwrap();
        self.may(".*").await;
    }

    async fn may(&self, read: &str) {
        let set = self.management().set_permissions(&self.place.vhost, &self.name, ".*", ".*", read);
        set.await.unwrap();
    }

    async fn bridge(&self) -> AmqpBridge {
        let builder = self.place.builder().user_and_password(&self.name, "password");
        started(builder.check_interval(Duration::from_millis(200))).await
    }

    async fn connects_again(&self) {
        // Channels remember what they were allowed.
        eventually("connections are closed", async || {
            self.management().close_connections(&self.place.vhost).await.unwrap() > 0
        })
        .await;
    }
}

async fn refused(bridge: &AmqpBridge) -> ErrorKind {
    let draft = EventDraft::event(ServiceAddress::client(), "happened");
    let options = EmitOptions::default().with_timeout(Duration::from_secs(1));
    bridge.emit_message(draft, &options).await.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_not_allowed_any_more_is_named_and_comes_back() {
    let user = User::new().await;
    let bridge = user.bridge().await;
    let (seen, _) = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    let (other, _) = watch(&bridge, "other", Filter::event("happened"), durable()).await.unwrap();
    user.may("^(?!.*-other$)").await;
    user.connects_again().await;
    let forbidden = ServiceAddress::new("Watcher", "1", "other");
    eventually("health names the one, and the other consumes", async || {
        let health = bridge.health();
        health.is_ready() && health.not_consuming == [forbidden.clone()]
    })
    .await;
    bridge.event("happened").timeout(PATIENCE).emit("meanwhile").await.unwrap();
    seen.sentinel("\"meanwhile\"").await.unwrap();
    assert_eq!(other.count(), 0);
    user.may(".*").await;
    eventually("all is well again", async || bridge.health().is_healthy()).await;
    other.sentinel("\"meanwhile\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_deleted_is_told_and_comes_back() {
    let user = User::new().await;
    let bridge = user.bridge().await;
    let (seen, _) = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    user.management().delete_user(&user.name).await.unwrap();
    eventually("it is unhealthy", async || !bridge.health().is_healthy()).await;
    eventually("it is told why", async || refused(&bridge).await == ErrorKind::Unauthenticated).await;
    user.exists("password").await;
    eventually("all is well again", async || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("after").await.unwrap();
    seen.sentinel("\"after\"").await.unwrap();

    user.exists("another password").await;
    user.connects_again().await;
    eventually("it is told why", async || refused(&bridge).await == ErrorKind::Unauthenticated).await;
    user.exists("password").await;
    eventually("all is well again", async || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("at last").await.unwrap();
    seen.sentinel("\"at last\"").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_that_are_cleared_are_told_and_come_back() {
    let user = User::new().await;
    let bridge = user.bridge().await;
    let (seen, _) = watch(&bridge, "reader", Filter::event("happened"), durable()).await.unwrap();
    user.management().clear_permissions(&user.place.vhost, &user.name).await.unwrap();
    user.connects_again().await;
    eventually("it is unhealthy", async || !bridge.health().is_healthy()).await;
    eventually("it is told why", async || refused(&bridge).await == ErrorKind::Forbidden).await;
    user.may(".*").await;
    eventually("all is well again", async || bridge.health().is_healthy()).await;
    bridge.event("happened").timeout(PATIENCE).emit("after").await.unwrap();
    seen.sentinel("\"after\"").await.unwrap();
}
