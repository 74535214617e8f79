//! What the tests share: a place on a server, handlers, and waits with a limit.

use std::{sync::Arc, time::Duration};

use lapin::{Channel, ConnectionProperties};
use purista_amqp::{AmqpBridge, AmqpBridgeBuilder};
use purista_conformance::Collector;
use purista_core::{
    Command, CommandHandler, CommandOptions, EventBridge as _, Filter, Id, Registration, Result,
    ServiceAddress, Subscription, SubscriptionOptions,
};
pub(crate) use purista_integration_tests::interop::{echo, held, invoke};
use purista_integration_tests::rabbitmq::{Binding, Connection, Exchange, Queue, RabbitConfig, RabbitServer};
use tokio::time::{Instant, interval, timeout};

/// How long anything may take that has no time limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long something that only has to come may take beside other tests.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// What names begin with.
const PREFIX: &str = "purista";

/// A virtual host of its own on a server.
pub(crate) struct Place {
    pub(crate) server: Arc<RabbitServer>,
    pub(crate) vhost: String,
}

impl Place {
    /// On the server that the tests share.
    pub(crate) async fn shared() -> Self {
        let (server, vhost) = (RabbitServer::shared().await.unwrap(), format!("t{}", Id::random()));
        server.management().create_vhost(&vhost).await.unwrap();
        Self { server, vhost }
    }

    /// On a server of its own.
    pub(crate) async fn own(config: RabbitConfig) -> Self {
        let server = Arc::new(RabbitServer::start(config).await.unwrap());
        Self { server, vhost: "/".to_owned() }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url_of(&self.vhost)
    }

    /// Begins to configure a bridge.
    pub(crate) fn builder(&self) -> AmqpBridgeBuilder {
        AmqpBridge::builder(self.url())
    }

    /// Begins to configure a bridge that shares with the original.
    pub(crate) fn typescript(&self) -> AmqpBridgeBuilder {
        self.builder().typescript_topology()
    }

    /// Returns a bridge that is started.
    pub(crate) async fn bridge(&self) -> AmqpBridge {
        started(self.builder()).await
    }

    /// Connects a client that is no bridge.
    pub(crate) async fn client(&self) -> Client {
        let properties = ConnectionProperties::default();
        let connection = lapin::Connection::connect(&self.url(), properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Client { _connection: connection, channel }
    }

    pub(crate) async fn queues(&self) -> Vec<Queue> {
        self.server.management().queues(&self.vhost).await.unwrap()
    }

    pub(crate) async fn queue(&self, name: &str) -> Option<Queue> {
        self.queues().await.into_iter().find(|queue| queue.name == name)
    }

    /// Returns the connections whose role is this.
    pub(crate) async fn connections(&self, role: &str) -> Vec<Connection> {
        let mut all = self.server.management().connections(&self.vhost).await.unwrap();
        all.retain(|connection| connection.connection_name().is_some_and(|name| name.ends_with(role)));
        all
    }

    /// Returns the exchanges that bridges made.
    pub(crate) async fn exchanges(&self) -> Vec<Exchange> {
        let all = self.server.management().exchanges(&self.vhost).await.unwrap();
        all.into_iter().filter(|exchange| exchange.name.starts_with(PREFIX)).collect()
    }

    /// Returns the bindings to exchanges that bridges made.
    pub(crate) async fn bindings(&self) -> Vec<Binding> {
        let all = self.server.management().bindings(&self.vhost).await.unwrap();
        all.into_iter().filter(|binding| !binding.source.is_empty()).collect()
    }
}

/// A connection and a channel of a client that is no bridge.
pub(crate) struct Client {
    _connection: lapin::Connection,
    pub(crate) channel: Channel,
}

/// Builds and starts a bridge.
pub(crate) async fn started(builder: AmqpBridgeBuilder) -> AmqpBridge {
    let bridge = builder.build().unwrap();
    bridge.start().await.unwrap();
    bridge
}

/// Serves a command.
pub(crate) async fn serve(
    bridge: &AmqpBridge,
    command: impl Into<ServiceAddress>,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    serve_with(bridge, command, CommandOptions::default(), handler).await
}

/// Serves a command with options.
pub(crate) async fn serve_with(
    bridge: &AmqpBridge,
    command: impl Into<ServiceAddress>,
    options: CommandOptions,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    bridge.register_command(Command::new(command).with_options(options), handler).await.unwrap()
}

/// Makes a subscription that collects what it gets.
pub(crate) async fn watch(
    bridge: &AmqpBridge,
    subscriber: &str,
    filter: Filter,
    options: SubscriptionOptions,
) -> Result<(Arc<Collector>, Registration)> {
    let collector = Collector::new();
    let subscription = Subscription::new(("Watcher", "1", subscriber), filter).with_options(options);
    let registration = bridge.register_subscription(subscription, collector.handler()).await?;
    Ok((collector, registration))
}

/// Asks that messages are kept while the subscriber is away, and keeps their order.
pub(crate) fn durable() -> SubscriptionOptions {
    in_order().with_durable(true)
}

/// Asks that messages are gone with the subscriber, and keeps their order.
pub(crate) fn transient() -> SubscriptionOptions {
    in_order().with_durable(false)
}

fn in_order() -> SubscriptionOptions {
    SubscriptionOptions::default().with_max_concurrency(1)
}

/// Waits with a limit.
pub(crate) async fn within<F: Future>(what: &str, work: F) -> F::Output {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Waits until a condition holds that nothing tells of, such as a count.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFnMut() -> bool) {
    assert!(eventually_is(holds).await, "not within {LONG_PATIENCE:?}: {what}");
}

/// Waits for a condition; returns whether it holds in time.
pub(crate) async fn eventually_is(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + LONG_PATIENCE;
    let mut poll = interval(Duration::from_millis(5));
    while !holds().await {
        if Instant::now() >= deadline {
            return false;
        }
        poll.tick().await;
    }
    true
}
