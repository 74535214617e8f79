//! What the tests share: a place on a server, handlers, and waits with a limit.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use purista_conformance::{Latch, on_command};
use purista_core::{
    Command, CommandHandler, CommandOptions, EventBridge as _, Health, Id, Registration, ServiceAddress,
    SubscriptionOptions,
};
pub(crate) use purista_integration_tests::interop::{echo, in_order, invoke, watch};
use purista_integration_tests::nats::{NatsConfig, NatsServer};
use purista_nats::{JetStreamConfig, NatsBridge, NatsBridgeBuilder};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};

/// How long anything may take that has no time limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long something that only has to come may take beside other tests.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// A prefix of its own on a server.
pub(crate) struct Place {
    pub(crate) server: Arc<NatsServer>,
    pub(crate) prefix: String,
}

impl Place {
    /// On the server that the tests share.
    pub(crate) async fn shared(has_jetstream: bool) -> Self {
        Self::on(NatsServer::shared(has_jetstream).await.unwrap())
    }

    /// On a server of its own.
    pub(crate) async fn own(config: NatsConfig) -> Self {
        Self::on(Arc::new(NatsServer::start(config).await.unwrap()))
    }

    fn on(server: Arc<NatsServer>) -> Self {
        Self { server, prefix: format!("t{}", Id::random()) }
    }

    /// Begins to configure a bridge.
    pub(crate) fn builder(&self) -> NatsBridgeBuilder {
        self.builder_for(self.server.url())
    }

    /// Begins to configure a bridge for other servers.
    pub(crate) fn builder_for(&self, servers: &str) -> NatsBridgeBuilder {
        let jetstream = JetStreamConfig::default().with_max_bytes(16 << 20);
        NatsBridge::builder(servers).prefix(&self.prefix).jetstream(jetstream)
    }

    /// Returns a bridge that is started.
    pub(crate) async fn bridge(&self) -> NatsBridge {
        started(self.builder()).await
    }

    /// Connects a client that is no bridge.
    pub(crate) async fn client(&self) -> Client {
        async_nats::connect(self.server.url()).await.unwrap()
    }

    /// Connects a client of JetStream that is no bridge.
    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Returns a subject or pattern of the original under the prefix of this place.
    pub(crate) fn here(&self, subject: &str) -> String {
        subject.replacen("purista.", &format!("{}.", self.prefix), 1)
    }

    /// Returns a queue group of the original as it is called under the prefix of this place.
    pub(crate) fn group_here(&self, group: &str) -> String {
        group.replacen("PURISTA", &self.prefix.to_uppercase(), 1)
    }

    /// Returns the name of a stream.
    pub(crate) fn stream(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }
}

/// Builds and starts a bridge.
pub(crate) async fn started(builder: NatsBridgeBuilder) -> NatsBridge {
    let bridge = builder.build().unwrap();
    bridge.start().await.unwrap();
    bridge
}

/// Serves a command.
pub(crate) async fn serve(
    bridge: &NatsBridge,
    command: impl Into<ServiceAddress>,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    serve_with(bridge, command, CommandOptions::default(), handler).await
}

/// Serves a command with options.
pub(crate) async fn serve_with(
    bridge: &NatsBridge,
    command: impl Into<ServiceAddress>,
    options: CommandOptions,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    bridge.register_command(Command::new(command).with_options(options), handler).await.unwrap()
}

/// Asks that messages are kept while the subscriber is away.
pub(crate) fn durable() -> SubscriptionOptions {
    SubscriptionOptions::default().with_durable(true)
}

/// Waits with a limit.
pub(crate) async fn within<F: Future>(what: &str, work: F) -> F::Output {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until a condition holds that nothing tells of, such as a count.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG_PATIENCE;
    let mut poll = interval(Duration::from_millis(5));
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LONG_PATIENCE:?}: {what}");
        poll.tick().await;
    }
}

/// Within which time health has to tell what happened, and all has to work again.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// Waits until something holds of a bridge's health.
pub(crate) async fn health_is(what: &str, bridge: &NatsBridge, holds: impl Fn(&Health) -> bool) {
    health_is_within(BOUND, what, bridge, holds).await;
}

/// Waits so long until something holds of a bridge's health.
pub(crate) async fn health_is_within(
    limit: Duration,
    what: &str,
    bridge: &NatsBridge,
    holds: impl Fn(&Health) -> bool,
) {
    let deadline = Instant::now() + limit;
    let mut poll = interval(Duration::from_millis(5));
    while !holds(&bridge.health()) {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}: {:?}", bridge.health());
        poll.tick().await;
    }
}

/// Waits until a bridge is healthy.
pub(crate) async fn is_well(bridge: &NatsBridge) {
    health_is("healthy", bridge, Health::is_healthy).await;
}

/// Waits until health names a registration.
pub(crate) async fn names(bridge: &NatsBridge, address: impl Into<ServiceAddress>) {
    let address = address.into();
    health_is("health names the registration", bridge, |health| health.not_consuming.contains(&address))
        .await;
}

/// Waits until a count is reached, as long as it grows.
pub(crate) async fn reaches(wanted: usize, count: impl Fn() -> usize) {
    let (mut last, mut poll) = (count(), interval(Duration::from_millis(5)));
    let mut deadline = Instant::now() + PATIENCE;
    while last < wanted {
        poll.tick().await;
        let now = count();
        if now != last {
            (last, deadline) = (now, Instant::now() + PATIENCE);
        }
        assert!(Instant::now() < deadline, "{last} of {wanted}, and no more within {PATIENCE:?}");
    }
}

/// Waits until the server has done what a client has said so far: to flush says nothing of that.
pub(crate) async fn settled(client: &Client) {
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, Bytes::new()).await.unwrap();
    next(&mut back).await;
}

/// Returns the next message of a client.
pub(crate) async fn next(subscriber: &mut Subscriber) -> async_nats::Message {
    within("a message", subscriber.next()).await.unwrap()
}

/// Reads the body of a message.
pub(crate) fn body(message: &async_nats::Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

/// Serves a command by an answer as soon as the latch lets it through.
pub(crate) fn held(latch: &Arc<Latch>) -> Arc<dyn CommandHandler> {
    let latch = Arc::clone(latch);
    on_command(move |_| {
        let latch = Arc::clone(&latch);
        async move {
            latch.pass().await;
            Ok(None)
        }
    })
}
