//! What the tests share: a place on a server, handlers, and waits with a limit.

use std::{sync::Arc, time::Duration};

use purista_core::{
    Command, CommandHandler, CommandOptions, EmitOptions, EventBridge as _, EventDraft, Payload,
    Registration, Result, ServiceAddress, SubscriptionOptions,
};
pub(crate) use purista_integration_tests::interop::{echo, in_order, invoke, invoke_within, watch};
use purista_integration_tests::mosquitto::{MosquittoConfig, MosquittoServer};
use purista_mqtt::{MqttBridge, MqttBridgeBuilder};
use tokio::time::{Instant, interval, timeout};

use crate::client::Client;

/// How long anything may take that has no time limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long something that only has to come may take beside other tests.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// A server of its own.
pub(crate) struct Place {
    pub(crate) server: MosquittoServer,
}

impl Place {
    /// On a server as Debian configures it.
    pub(crate) async fn stock() -> Self {
        Self::on(MosquittoConfig::stock()).await
    }

    /// On a server as this crate configures it.
    pub(crate) async fn tuned() -> Self {
        Self::on(MosquittoConfig::tuned()).await
    }

    pub(crate) async fn on(config: MosquittoConfig) -> Self {
        Self { server: MosquittoServer::start(config).await.unwrap() }
    }

    /// Begins to configure a bridge.
    pub(crate) fn builder(&self) -> MqttBridgeBuilder {
        MqttBridge::builder(self.server.url())
    }

    /// Begins to configure a bridge whose subscriptions can be durable.
    pub(crate) fn persistent(&self, instance_id: &str) -> MqttBridgeBuilder {
        self.builder().instance_id(instance_id).persistent_sessions(Duration::from_secs(3_600))
    }

    /// Returns a bridge that is started.
    pub(crate) async fn bridge(&self) -> MqttBridge {
        started(self.builder()).await
    }

    /// Returns a bridge with this instance id that is started.
    pub(crate) async fn instance(&self, instance_id: &str) -> MqttBridge {
        started(self.builder().instance_id(instance_id)).await
    }

    /// Connects a client that is no bridge.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.server.address()).await
    }

    /// Returns what is subscribed to for the subscriber of this name, by the names of its clients.
    pub(crate) fn subscriptions_of(&self, subscriber: &str) -> Vec<(String, String)> {
        let client = format!("purista-Watcher-1-{subscriber}-");
        let all = self.server.subscriptions().unwrap().into_iter();
        let own = all.filter(|known| known.client.starts_with(&client));
        // Without that by which a bridge looks whether it may still read what it listens to.
        let own = own.filter(|known| !known.filter.ends_with(&format!("/+/{}", known.client)));
        let mut own: Vec<_> = own.map(|known| (known.client, known.filter)).collect();
        own.sort();
        own
    }
}

/// Builds and starts a bridge.
pub(crate) async fn started(builder: MqttBridgeBuilder) -> MqttBridge {
    let bridge = builder.build().unwrap();
    bridge.start().await.unwrap();
    bridge
}

/// Serves a command.
pub(crate) async fn serve(
    bridge: &MqttBridge,
    command: impl Into<ServiceAddress>,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    serve_with(bridge, command, CommandOptions::default(), handler).await
}

/// Serves a command with options.
pub(crate) async fn serve_with(
    bridge: &MqttBridge,
    command: impl Into<ServiceAddress>,
    options: CommandOptions,
    handler: Arc<dyn CommandHandler>,
) -> Registration {
    bridge.register_command(Command::new(command).with_options(options), handler).await.unwrap()
}

/// Emits a number, with a time limit.
pub(crate) async fn emit_within(
    bridge: &MqttBridge,
    event_name: &str,
    number: usize,
    limit: Duration,
) -> Result<()> {
    let draft = EventDraft::event(ServiceAddress::client(), event_name);
    let draft = draft.with_payload(Payload::json(&number).unwrap());
    bridge.emit_message(draft, &EmitOptions::default().with_timeout(limit)).await.map(drop)
}

/// Asks that messages are kept while the subscriber is away, and keeps their order.
pub(crate) fn durable() -> SubscriptionOptions {
    in_order().with_durable(true)
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
