//! Ways in which registrations stop consuming here while their bridge stays connected.

use std::sync::Arc;

use async_nats::{ConnectOptions, jetstream};
use parking_lot::Mutex;
use purista_conformance::Stoppage;
use purista_core::{Result, ServiceAddress, adapter::async_trait};
use purista_integration_tests::nats::{NatsConfig, NatsServer};
use serde_json::json;

use super::{
    secured::{Secured, USER, password},
    wire::{consumer_name, stream, unavailable},
};

/// Returns all of them for a server with a login.
pub(super) fn stoppages(
    server: &Arc<NatsServer>,
    base: &NatsConfig,
    prefix: &str,
    has_jetstream: bool,
) -> Vec<Arc<dyn Stoppage>> {
    let withdrawn = |name: &'static str, permissions: String| -> Arc<dyn Stoppage> {
        Arc::new(Withdrawn { name, server: Arc::clone(server), base: base.clone(), permissions })
    };
    let mut all = vec![
        withdrawn(
            "the right to subscribe to commands is withdrawn",
            format!("subscribe: {{ deny: \"{prefix}.command.>\" }}"),
        ),
        withdrawn(
            "the right to inboxes is withdrawn",
            format!("subscribe: {{ deny: \"_INBOX_{prefix}.>\" }}"),
        ),
    ];
    if !has_jetstream {
        // A denial of a part of what a subscription listens to would let the subscription live, and filter what it gets.
        let events = format!(
            "subscribe: {{ allow: [\"_INBOX_{prefix}.>\", \"{prefix}.command.>\", \"{prefix}.command_member.>\"] }}"
        );
        all.push(withdrawn("the right to subscribe to events is withdrawn", events));
        return all;
    }
    let denied = |subject: &str| format!("publish: {{ deny: \"{subject}\" }}");
    all.push(withdrawn("the right to ask for messages is withdrawn", denied("$JS.API.CONSUMER.MSG.NEXT.>")));
    all.push(withdrawn("the right to acknowledge is withdrawn", denied("$JS.ACK.>")));
    for what in [What::ConsumerDeleted, What::StreamDeleted, What::ConsumerPaused] {
        let (server, prefix) = (Arc::clone(server), prefix.to_owned());
        all.push(Arc::new(Done { what, server, prefix, undo: Mutex::new(None) }));
    }
    all
}

/// A permission that is withdrawn by another configuration of the running server.
struct Withdrawn {
    name: &'static str,
    server: Arc<NatsServer>,
    base: NatsConfig,
    permissions: String,
}

impl Withdrawn {
    async fn allow(&self, permissions: &str) -> Result<()> {
        let config = Secured::Login(permissions.to_owned(), true).configure_server(self.base.clone());
        self.server.reload(&config).await.map_err(unavailable)
    }
}

#[async_trait]
impl Stoppage for Withdrawn {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn begin(&self, _command: &ServiceAddress, _subscriber: &ServiceAddress) -> Result<()> {
        self.allow(&self.permissions).await
    }

    async fn end(&self) -> Result<()> {
        self.allow("").await
    }
}

#[derive(Clone, Copy)]
enum What {
    ConsumerDeleted,
    StreamDeleted,
    ConsumerPaused,
}

/// Something that an operator does to the stream of events.
struct Done {
    what: What,
    server: Arc<NatsServer>,
    prefix: String,
    /// The subject of the request that takes it back.
    undo: Mutex<Option<String>>,
}

impl Done {
    async fn client(&self) -> Result<async_nats::Client> {
        let options = ConnectOptions::with_user_and_password(USER.to_owned(), password());
        options.connect(self.server.url()).await.map_err(unavailable)
    }
}

#[async_trait]
impl Stoppage for Done {
    fn name(&self) -> &'static str {
        match self.what {
            What::ConsumerDeleted => "the consumer is deleted",
            What::StreamDeleted => "the stream is deleted",
            What::ConsumerPaused => "the consumer is paused",
        }
    }

    async fn begin(&self, _command: &ServiceAddress, subscriber: &ServiceAddress) -> Result<()> {
        let client = self.client().await?;
        let (events, consumer) = (stream(&self.prefix, "events"), consumer_name(subscriber));
        let context = jetstream::new(client.clone());
        match self.what {
            What::StreamDeleted => context.delete_stream(&events).await.map(drop).map_err(unavailable),
            What::ConsumerDeleted => {
                let events = context.get_stream(&events).await.map_err(unavailable)?;
                events.delete_consumer(&consumer).await.map(drop).map_err(unavailable)
            }
            What::ConsumerPaused => {
                let subject = format!("$JS.API.CONSUMER.PAUSE.{events}.{consumer}");
                *self.undo.lock() = Some(subject.clone());
                let request = json!({ "pause_until": "2099-01-01T00:00:00Z" }).to_string();
                client.request(subject, request.into()).await.map(drop).map_err(unavailable)
            }
        }
    }

    async fn end(&self) -> Result<()> {
        let undo = self.undo.lock().take();
        match undo {
            Some(subject) => {
                let client = self.client().await?;
                client.request(subject, "{}".into()).await.map(drop).map_err(unavailable)
            }
            None => Ok(()),
        }
    }
}
