//! The original emits to subscriptions of ours, and receives what ours emit.

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse as _,
    routing::post,
};
use purista_core::{Context, EmitOptions, EventBridge as _, EventBridgeExt as _, Filter, Payload, Service};
use purista_integration_tests::{
    dapr::Component,
    rabbitmq::{RabbitConfig, RabbitServer},
    samples,
};
use serde_json::{Value, json};

use super::original::{CALLER, Original, events, failed, send};
use crate::support::{PATIENCE, Place, Seen, beside};

#[tokio::test]
async fn a_subscription_of_ours_gets_all_that_the_original_says() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let sidecar = place.sidecar("app-mail-v1").await?;
    let bridge = beside(&sidecar).build()?;
    let seen = Seen::default();
    let sees = seen.clone();
    let handler = move |context: Context, _: Payload| {
        sees.push(String::from_utf8_lossy(&context.message().encode()));
        async { Ok(()) }
    };
    let service = Service::new("Mail", "1").subscription("welcome", Filter::event("userCreated"), handler);
    bridge.serve([service]).await?;
    for (index, event) in events().iter().enumerate() {
        let (status, _, body) = send(&sidecar, "publish/pubsub/userCreated", event).await?;
        ensure!(status == StatusCode::NO_CONTENT, "{status} {body:?}");
        let came = seen.at_least(index + 1).await?;
        let mut came: Value = serde_json::from_str(came.last().context("none")?)?;
        let fields = came.as_object_mut().context("no object")?;
        // It is given what the original left out.
        fields.retain(|name, _| event.get(name).is_some() || !["id", "timestamp"].contains(&name.as_str()));
        ensure!(came == *event, "{came} is not {event}");
    }
    ensure!(seen.all().len() == events().len() && bridge.stats().malformed == 0, "{:?}", bridge.stats());
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

/// A subscriber of the original, which takes what its library of CloudEvents takes.
fn subscriber(seen: &Seen) -> Router {
    let seen = seen.clone();
    let handler = async move |headers: HeaderMap, body: Bytes| {
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !content_type.starts_with("application/cloudevents+json") {
            return failed(StatusCode::INTERNAL_SERVER_ERROR);
        }
        seen.push(String::from_utf8_lossy(&body));
        StatusCode::NO_CONTENT.into_response()
    };
    Router::new().route("/purista/subscription/send-welcome", post(handler))
}

#[tokio::test]
async fn a_subscriber_of_the_original_gets_all_that_ours_say() -> anyhow::Result<()> {
    let server = RabbitServer::start(RabbitConfig::default()).await?;
    let place = Place::new(Component::RabbitMq { url: server.url().into() })?;
    let seen = Seen::default();
    let route = "purista/subscription/send-welcome";
    let subscriptions = json!([{ "pubsubname": "pubsub", "topic": "userCreated", "route": route }]);
    let _subscriber = Original::start(&place, "app-mail-v1", &subscriptions, subscriber(&seen)).await?;
    let sidecar = place.sidecar("app-caller-v1").await?;
    let bridge = beside(&sidecar).instance_id(CALLER).build()?;
    bridge.start().await?;

    for (index, mut expected) in events().into_iter().enumerate() {
        let sent = bridge.emit_message(samples::event_draft(&expected)?, &EmitOptions::default()).await?;
        expected["id"] = json!(sent.id);
        expected["timestamp"] = json!(sent.timestamp);
        let came = seen.at_least(index + 1).await?;
        let came: Value = serde_json::from_str(came.last().context("none")?)?;
        ensure!(came["data"] == expected, "{came} does not hold {expected}");
        ensure!(came["specversion"] == "1.0" && came["datacontenttype"] == "application/json", "{came}");
        let attributes = came.as_object().context("no object")?.iter().filter(|(name, _)| *name != "data");
        for (name, value) in attributes {
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let is_said = value.as_str().is_some_and(|value| !value.is_empty());
            ensure!(is_name && is_said, "{name} is {value}");
        }
    }
    // What came twice would have come before the last one.
    ensure!(seen.all().len() == events().len(), "{seen:?}");
    bridge.shutdown(PATIENCE).await;
    Ok(())
}
