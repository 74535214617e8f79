//! What the sidecar calls.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::future::join_all;
use purista_cloudevents::{Answer, Malformed, Server, Settled, json, received, status, with_token};
use purista_core::{
    ErrorKind, Message, MessageType, Result,
    adapter::{Link, deadline_after},
};
use tokio::time::Instant;

use crate::{
    codec::TIME_LIMIT,
    config::Config,
    error::error,
    routes::Routes,
    sidecar::{REACH, TOKEN},
    transport::NAME,
};

const HEALTHZ: &str = "/healthz";

/// What the requests of a sidecar need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) routes: Arc<Routes>,
    pub(crate) link: Link,
    pub(crate) config: Config,
}

impl App {
    /// Opens the server that the sidecar calls.
    pub(crate) async fn open(self, address: SocketAddr) -> Result<Server> {
        let header_timeout = self.config.header_timeout;
        let opened = Server::open(address, router(Arc::new(self)), header_timeout).await;
        opened.map_err(|error| error.with_bridge(NAME))
    }
}

fn router(app: Arc<App>) -> Router {
    let token = app.config.app_token.clone();
    let router = Router::new()
        .route("/dapr/config", get(async || json(StatusCode::OK, r#"{"entities":[]}"#)))
        .route("/dapr/subscribe", get(subscriptions))
        .route("/purista/command/{command}", post(command))
        .route("/purista/subscription/{topic}", post(event))
        .route(REACH, get(async || StatusCode::NO_CONTENT))
        .route(HEALTHZ, get(health))
        .fallback(async || status(StatusCode::NOT_FOUND))
        .layer(DefaultBodyLimit::max(app.config.max_body()))
        .with_state(app);
    match token {
        // Orchestrators, which ask whether we are well, know no token.
        Some(token) => with_token(router, TOKEN, token, HEALTHZ),
        None => router,
    }
}

async fn health(State(app): State<Arc<App>>) -> Response {
    match app.routes.is_stopped() {
        true => status(StatusCode::SERVICE_UNAVAILABLE),
        false => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Tells what to subscribe to. The sidecar asks once.
async fn subscriptions(State(app): State<Arc<App>>) -> Response {
    let subscription = |topic: String| {
        let route = crate::address::subscription_path(&topic);
        serde_json::json!({ "pubsubname": app.config.pubsub_name, "topic": topic, "route": route })
    };
    let subscriptions: serde_json::Value = app.routes.topics().into_iter().map(subscription).collect();
    json(StatusCode::OK, subscriptions.to_string())
}

async fn command(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let deadline = deadline(&headers);
    let command = match body.map(Message::decode) {
        // Where it is handled, a stream is refused.
        Ok(Ok(command)) if matches!(command.message_type(), MessageType::Command | MessageType::Stream) => {
            command
        }
        Ok(Ok(_)) => {
            let context = "what came to a command is none";
            app.link.malformed(&error(ErrorKind::InvalidMessage, "receive").with_context(context));
            return status(StatusCode::BAD_REQUEST);
        }
        Ok(Err(error)) => {
            app.link.malformed(&error);
            return status(StatusCode::BAD_REQUEST);
        }
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            app.link.malformed(&error(ErrorKind::InvalidMessage, "receive").with_source(rejection));
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
        // Its connection broke: who sent it knows.
        Err(_) => return status(StatusCode::BAD_REQUEST),
    };
    let Some(served) = app.routes.served(&name, &command) else { return status(StatusCode::NOT_FOUND) };
    match served.handle(Arc::new(command), deadline).await {
        Answer { status: StatusCode::OK, body, .. } => json(StatusCode::OK, body),
        Answer { status: refusal, .. } => status(refusal),
    }
}

/// Counts from the receipt, as clocks of two machines are not compared.
pub(crate) fn deadline(headers: &HeaderMap) -> Option<Instant> {
    deadline_after(headers.get(TIME_LIMIT)?.to_str().ok()?, Instant::now())
}

async fn event(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let subscribed = app.routes.subscribed(&topic);
    if subscribed.is_empty() {
        return status(StatusCode::NOT_FOUND);
    }
    let message = match body {
        Ok(body) => received(&headers, &body),
        Err(rejection) if rejection.status() != StatusCode::PAYLOAD_TOO_LARGE => {
            return status(StatusCode::BAD_REQUEST);
        }
        Err(rejection) => {
            Err(Malformed::NoMessage(error(ErrorKind::InvalidMessage, "receive").with_source(rejection)))
        }
    };
    let received = match message {
        Ok(received) => received,
        Err(Malformed::NoCloudEvent(error)) => {
            app.link.malformed(&error.with_bridge(NAME));
            return status(StatusCode::BAD_REQUEST);
        }
        // To deliver it again would not help.
        Err(Malformed::NoMessage(error)) => {
            app.link.malformed(&error.with_bridge(NAME));
            return acknowledge("DROP");
        }
    };
    let message = Arc::new(received.message);
    let is_for_all = app.config.all_messages_topic.as_ref() == Some(&topic);
    let handled =
        subscribed.iter().map(|subscribed| subscribed.handle(&message, &received.original, is_for_all));
    let settled = join_all(handled).await;
    match settled.contains(&Settled::Released) {
        true if app.routes.is_stopped() => status(StatusCode::SERVICE_UNAVAILABLE),
        true => acknowledge("RETRY"),
        false => acknowledge("SUCCESS"),
    }
}

fn acknowledge(outcome: &str) -> Response {
    json(StatusCode::OK, format!("{{\"status\":\"{outcome}\"}}"))
}
