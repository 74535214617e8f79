//! An instance of the TypeScript original: an app beside a sidecar of its own, which calls, publishes and serves as it
//! does.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Router,
    body::Bytes as Body,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use purista_conformance::{Bodies, Original, Part};
use purista_core::{
    Result, ServiceAddress,
    adapter::{Backoff, async_trait},
    routing::case::kebab,
};
use purista_integration_tests::dapr::{Sidecar, SidecarConfig};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    fleet::Fleet,
    instance::{PREFETCHED, app_id_of},
    wire::unavailable,
};
use crate::profile::deployment::START_PATIENCE;

pub(crate) struct DaprOriginal {
    sidecar: Sidecar,
    client: Client,
    fleet: Arc<Fleet>,
    answers: Arc<Bodies>,
    _app: AbortOnDropHandle<std::io::Result<()>>,
}

impl DaprOriginal {
    pub(crate) async fn start(fleet: &Arc<Fleet>, part: &Part) -> Result<Self> {
        let mut routes = Router::new()
            .route("/dapr/config", get(async || answered(StatusCode::OK, r#"{"entities":[]}"#)))
            .route("/healthz", get(async || failed(StatusCode::INTERNAL_SERVER_ERROR)))
            .fallback(async || failed(StatusCode::NOT_FOUND));
        for served in &part.serves {
            let path = format!("/purista/command/{}", kebab(&served.command.service_target));
            let served = served.clone();
            routes = routes.route(
                &path,
                post(async move |body: Body| match serde_json::from_slice(&body) {
                    // Encoded twice, as there.
                    Ok(command) => {
                        let (_, answer) = served.execute(command);
                        answered(StatusCode::OK, json!(String::from_utf8_lossy(&answer)).to_string())
                    }
                    Err(_) => failed(StatusCode::INTERNAL_SERVER_ERROR),
                }),
            );
        }
        let mut subscriptions = Vec::new();
        for (number, subscribed) in part.subscribes.iter().enumerate() {
            let path = format!("purista/subscription/number-{number}");
            subscriptions.push(json!({
                "pubsubname": "pubsub", "topic": subscribed.event_name, "route": path,
            }));
            let seen = Arc::clone(&subscribed.seen);
            routes = routes.route(
                &format!("/{path}"),
                post(async move |body: Body| match serde_json::from_slice::<Value>(&body) {
                    Ok(event) if event["data"].is_object() => {
                        seen.add(event["data"].clone());
                        StatusCode::NO_CONTENT.into_response()
                    }
                    _ => failed(StatusCode::BAD_REQUEST),
                }),
            );
        }
        let subscriptions = Value::Array(subscriptions).to_string();
        let routes =
            routes.route("/dapr/subscribe", get(async move || answered(StatusCode::OK, subscriptions)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(unavailable)?;
        let port = listener.local_addr().map_err(unavailable)?.port();
        let app = tokio::spawn(async move { axum::serve(listener, routes).await });

        let commands: Vec<_> = part.serves.iter().map(|served| served.command.clone()).collect();
        let subscribers: Vec<_> = part.subscribes.iter().map(|it| it.subscriber.clone()).collect();
        let app_id = app_id_of(&commands, &subscribers, &part.instance_id);
        fleet.apps.lock().extend(commands.into_iter().map(|command| (command, app_id.clone())));
        let config = SidecarConfig::new(&app_id, port, fleet.component.clone(), &fleet.registry)
            .with_component_metadata("prefetchCount", PREFETCHED.to_string());
        let sidecar = Sidecar::start(config).await.map_err(unavailable)?;
        let client = Client::builder().no_proxy().build().map_err(unavailable)?;
        until_ready(&client, &sidecar).await?;
        let (fleet, answers) = (Arc::clone(fleet), Arc::clone(&part.answers));
        Ok(Self { sidecar, client, fleet, answers, _app: AbortOnDropHandle::new(app) })
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let url = format!("{}/v1.0/{path}", self.sidecar.url());
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json; charset=utf-8");
        let answer = request.body(body).send().await.map_err(unavailable)?;
        let status = answer.status();
        Ok((status, answer.bytes().await.map_err(unavailable)?))
    }
}

async fn until_ready(client: &Client, sidecar: &Sidecar) -> Result<()> {
    let url = format!("{}/v1.0/healthz", sidecar.url());
    let ready = async {
        let mut backoff = Backoff::default();
        while client.get(&url).send().await.map_err(unavailable)?.status() != StatusCode::NO_CONTENT {
            tokio::time::sleep(backoff.next_delay()).await;
        }
        Ok(())
    };
    timeout(START_PATIENCE, ready).await.map_err(unavailable)?
}

/// What it answers if something fails.
fn failed(status: StatusCode) -> Response {
    let message = status.canonical_reason().unwrap_or_default();
    answered(status, json!({ "status": status.as_u16(), "message": message }).to_string())
}

fn answered(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}

#[async_trait]
impl Original for DaprOriginal {
    async fn send(&self, message: &Value, body: Bytes) -> Result<()> {
        let is_frame_of_event = message["messageType"] == "stream" && message["eventName"].is_string();
        if message["messageType"] == "customMessage" || is_frame_of_event {
            // As text, of which the client makes a URL.
            let topic = message["eventName"].as_str().unwrap_or_default();
            let (status, body) = self.post(&format!("publish/pubsub/{topic}"), body).await?;
            return match status.is_success() {
                true => Ok(()),
                false => Err(unavailable(format!("{status} {}", String::from_utf8_lossy(&body)))),
            };
        }
        let to = &message["receiver"];
        let part = |name: &str| to[name].as_str().unwrap_or_default();
        let command = ServiceAddress::new(part("serviceName"), part("serviceVersion"), part("serviceTarget"));
        let app_id = self.fleet.apps.lock().get(&command).cloned().unwrap_or_else(|| "nobody".to_owned());
        let path = format!("invoke/{app_id}/method/purista/command/{}", kebab(&command.service_target));
        let (status, body) = self.post(&path, body).await?;
        let mut answer: Value = serde_json::from_slice(&body).map_err(unavailable)?;
        // The original reads this once, and its callers get nothing from each other.
        if let Some(encoded_twice) = answer.as_str().and_then(|text| serde_json::from_str(text).ok()) {
            answer = encoded_twice;
        }
        self.answers.add(match status {
            StatusCode::OK => answer,
            // Its client makes an error of a status.
            _ => json!({
                "messageType": "commandErrorResponse",
                "correlationId": message["correlationId"],
                "payload": answer,
            }),
        });
        Ok(())
    }
}
