//! An app that behaves as one of the original does, and the messages of the original.

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use purista_core::adapter::Backoff;
use purista_integration_tests::dapr::Sidecar;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{PATIENCE, Place};

/// The instance that calls and emits.
pub(crate) const CALLER: &str = "5c0a7e41d92b4f36a8e1907bd3f2c684";

/// The instance that answers.
pub(crate) const SERVICE: &str = "e81f30b6a7c94d25b0d4f6927c5a1e38";

/// An app of the original beside its sidecar.
pub(crate) struct Original {
    sidecar: Sidecar,
    _app: AbortOnDropHandle<std::io::Result<()>>,
}

impl Original {
    /// Starts it; returns when the sidecar has reached it, and subscribed to what it wants.
    pub(crate) async fn start(
        place: &Place,
        app_id: &str,
        subscriptions: &Value,
        routes: Router,
    ) -> anyhow::Result<Self> {
        let subscriptions = subscriptions.to_string();
        let routes = routes
            .route("/dapr/config", get(async || json_response(StatusCode::OK, r#"{"entities":[]}"#)))
            .route("/dapr/subscribe", get(async move || json_response(StatusCode::OK, subscriptions)))
            .route("/healthz", get(async || failed(StatusCode::INTERNAL_SERVER_ERROR)))
            .fallback(async || failed(StatusCode::NOT_FOUND));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let app = tokio::spawn(async move { axum::serve(listener, routes).await });
        let config = place.config(app_id)?.with_argument(format!("--app-port={port}"));
        let sidecar = Sidecar::start(config).await?;
        until_ready(&sidecar).await?;
        Ok(Self { sidecar, _app: AbortOnDropHandle::new(app) })
    }

    /// Calls a command, by the path that the original makes of its address.
    pub(crate) async fn invoke(&self, path: &str, command: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let (status, headers, body) = send(&self.sidecar, &format!("invoke/{path}"), command).await?;
        ensure!(headers.get(CONTENT_TYPE).context("no content type")? == "application/json", "{headers:?}");
        Ok((status, serde_json::from_slice(&body)?))
    }
}

async fn until_ready(sidecar: &Sidecar) -> anyhow::Result<()> {
    let (http, url) = (client()?, format!("{}/v1.0/healthz", sidecar.url()));
    let ready = async {
        let mut backoff = Backoff::default();
        while http.get(&url).send().await?.status() != StatusCode::NO_CONTENT {
            tokio::time::sleep(backoff.next_delay()).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, ready).await.context("the sidecar is not ready")?
}

/// Sends a message to a sidecar as the original does.
pub(crate) async fn send(
    sidecar: &Sidecar,
    path: &str,
    message: &Value,
) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
    let trace: Value = serde_json::from_str(message["otp"].as_str().context("no otp")?)?;
    let request = client()?
        .post(format!("{}/v1.0/{path}", sidecar.url()))
        .timeout(PATIENCE)
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header("traceparent", trace["traceparent"].as_str().context("no trace")?);
    let answer = request.body(message.to_string()).send().await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    Ok((status, headers, answer.bytes().await?))
}

fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().build()
}

/// What it answers if something fails.
pub(crate) fn failed(status: StatusCode) -> Response {
    let message = status.canonical_reason().unwrap_or_default();
    json_response(status, json!({ "status": status.as_u16(), "message": message }).to_string())
}

pub(crate) fn json_response(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// A command of the original.
pub(crate) fn command(target: &str) -> Value {
    json!({
        "sender": {
            "serviceName": "Caller", "serviceVersion": "1", "serviceTarget": "callIt", "instanceId": CALLER,
        },
        "receiver": { "serviceName": "UserService", "serviceVersion": "1", "serviceTarget": target },
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "payload": { "payload": { "name": "Zoë <&>", "age": 36 }, "parameter": { "loud": true } },
        "principalId": "principal-1",
        "tenantId": "tenantOne",
        "traceId": "7b1d0e92c5f84a63912e8d40b6a7f3c5",
        "id": purista_core::Id::random(),
        "correlationId": purista_core::Id::random(),
        "timestamp": 1_790_200_000_000_u64,
        "messageType": "command",
        "otp": r#"{"traceparent":"00-3f9a1c5e7b2d4860a1c3e5f708192a3b-6c8e0a2b4d5f7193-01"}"#,
    })
}

/// The original's answer to a command, or to one that failed.
pub(crate) fn response(command: &Value, error: Option<bool>, payload: Value) -> Value {
    let mut response = command.clone();
    response["messageType"] = json!("commandSuccessResponse");
    if let Some(is_handled) = error {
        response["messageType"] = json!("commandErrorResponse");
        response["isHandledError"] = json!(is_handled);
    }
    response["sender"] = command["receiver"].clone();
    response["sender"]["instanceId"] = json!(SERVICE);
    response["receiver"] = command["sender"].clone();
    response["timestamp"] = json!(1_790_200_000_100_u64);
    response["payload"] = payload;
    response
}

/// Events of the original.
pub(crate) fn events() -> Vec<Value> {
    let plain = json!({
        "messageType": "customMessage",
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "eventName": "userCreated",
        "sender": {
            "serviceName": "Caller", "serviceVersion": "1", "serviceTarget": "callIt", "instanceId": CALLER,
        },
        "payload": { "name": "Zoë <&> 🪑 \u{0}", "ages": [36, 0.5, null] },
        "id": "0d6b3f8a91e24c7590ab12cd34ef5678",
        "timestamp": 1_790_200_000_200_u64,
        "otp": r#"{"traceparent":"00-8e2c4a6f1b3d5079e8c6a4b2d0f1e3c5-1a3c5e7092b4d6f8-01"}"#,
    });
    let (mut whole, mut derived) = (plain.clone(), plain.clone());
    whole["id"] = json!("1d6b3f8a91e24c7590ab12cd34ef5678");
    whole["principalId"] = json!("principal-1");
    whole["tenantId"] = json!("tenantOne");
    whole["traceId"] = json!("7b1d0e92c5f84a63912e8d40b6a7f3c5");
    whole["receiver"] = json!({
        "serviceName": "UserService", "serviceVersion": "1", "serviceTarget": "echoBack", "instanceId": SERVICE,
    });
    whole["payload"] = json!("just text");
    // Those that a subscription emits have neither.
    for left_out in ["id", "timestamp"] {
        derived.as_object_mut().into_iter().for_each(|fields| drop(fields.remove(left_out)));
    }
    vec![plain, whole, derived]
}
