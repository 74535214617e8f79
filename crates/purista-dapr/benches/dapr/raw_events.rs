//! The raw side of events.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use bytes::Bytes;
use purista_integration_tests::bench::{Consumed, Contender, Handled, Stage};
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::{
    client::{self, Caller, until_ready},
    place::Beside,
    server,
};

/// How many events wait for the answer of the sidecar at once.
pub(crate) const IN_FLIGHT: usize = 64;

/// What a raw contender publishes, on the topic of its name.
#[derive(Clone, Debug)]
pub(crate) struct RawEvent {
    pub(crate) name: &'static str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the component gets it as it is; otherwise the sidecar makes a CloudEvent of it.
    pub(crate) is_raw: bool,
    /// Whether it is a CloudEvent.
    pub(crate) is_cloud_event: bool,
}

impl RawEvent {
    /// Publishes just these bytes.
    pub(crate) fn bare(name: &'static str, body: Bytes, is_raw: bool) -> Self {
        Self { name, headers: client::json(), body, is_raw, is_cloud_event: !is_raw }
    }

    /// Says what the sidecar has to subscribe to.
    fn subscription(&self) -> serde_json::Value {
        let metadata = match self.is_cloud_event {
            true => json!({}),
            false => json!({ "rawPayload": "true" }),
        };
        json!({ "pubsubname": "pubsub", "topic": self.name, "route": self.name, "metadata": metadata })
    }
}

/// What is consumed, by the names of the events.
pub(crate) type Consumers = BTreeMap<&'static str, Arc<Handled>>;

/// Adds those who publish beside a sidecar.
pub(crate) fn add(
    stage: &mut Stage,
    publisher: &str,
    events: Vec<RawEvent>,
    consumers: &Consumers,
) -> anyhow::Result<()> {
    for RawEvent { name, headers, body, is_raw, .. } in events {
        let query = if is_raw { "?metadata.rawPayload=true" } else { "" };
        let url = format!("{publisher}/v1.0/publish/pubsub/{name}{query}");
        let caller = Arc::new(Caller::new(&url, headers, body)?);
        let consumed = consumers.get(name).map(|handled| Consumed::new(Arc::clone(handled), async || Ok(())));
        stage.add(Contender::of_events(name, IN_FLIGHT, consumed, move || {
            let caller = Arc::clone(&caller);
            async move { caller.call().await }
        }));
    }
    Ok(())
}

/// Starts an app that consumes all of them; returns when its sidecar has subscribed.
pub(crate) async fn consume(
    stage: &mut Stage,
    app: Beside,
    events: &[RawEvent],
) -> anyhow::Result<Consumers> {
    let (mut router, mut consumers) = (Router::new(), Consumers::new());
    for event in events {
        let handled = Arc::new(Handled::default());
        consumers.insert(event.name, Arc::clone(&handled));
        let handle = async move |_event: Bytes| {
            handled.one_more();
            server::json(r#"{"status":"SUCCESS"}"#)
        };
        router = router.route(&format!("/{}", event.name), post(handle));
    }
    let subscriptions: serde_json::Value = events.iter().map(RawEvent::subscription).collect();
    let router = router.route("/dapr/subscribe", get(async move || server::json(subscriptions.to_string())));
    stage.keep_task(server::serve(app.app_port, router).await?);
    until_ready(&app.url).await?;
    Ok(consumers)
}
