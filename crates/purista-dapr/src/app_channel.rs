use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::future::join_all;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use purista_core::{
    ErrorKind, Message, MessageType, Result,
    adapter::{Backoff, Link, deadline_after},
};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    cloud_event::{self, Malformed},
    codec::TIME_LIMIT,
    command_consumer::Answer,
    config::Config,
    error::error,
    routes::Routes,
    sidecar::{REACH, TOKEN},
    subscription_consumer::Settled,
};

const HEALTHZ: &str = "/healthz";

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1_024;

/// The server that the sidecar calls.
#[derive(Debug)]
pub(crate) struct AppChannel {
    closing: CancellationToken,
    server: AbortOnDropHandle<()>,
}

/// What its handlers need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) routes: Arc<Routes>,
    pub(crate) link: Link,
    pub(crate) config: Config,
}

impl AppChannel {
    /// Opens it.
    pub(crate) async fn open(address: SocketAddr, app: App) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|cause| {
            error(ErrorKind::Unavailable, "start")
                .context(format!("cannot listen to {address}"))
                .source(cause)
        })?;
        let header_timeout = app.config.header_timeout;
        let service = TowerToHyperService::new(router(Arc::new(app)));
        let closing = CancellationToken::new();
        let server = tokio::spawn(serve(listener, service, header_timeout, closing.clone()));
        Ok(Self { closing, server: AbortOnDropHandle::new(server) })
    }

    /// Takes no more requests, and waits for those that run.
    pub(crate) async fn close(self) {
        self.closing.cancel();
        let _ended = self.server.await;
    }
}

async fn serve(
    listener: TcpListener,
    service: TowerToHyperService<Router>,
    header_timeout: Duration,
    closing: CancellationToken,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEAD);
    let graceful = GracefulShutdown::new();
    // With them, connections end.
    let mut connections = JoinSet::new();
    let mut backoff = Backoff::default();
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        match accepted {
            Ok(stream) => {
                backoff.reset();
                let connection = http.serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(graceful.watch(connection));
            }
            Err(cause) => {
                tracing::warn!(%cause, "the sidecar cannot connect");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/dapr/config", get(async || json(StatusCode::OK, r#"{"entities":[]}"#)))
        .route("/dapr/subscribe", get(subscriptions))
        .route("/purista/command/{command}", post(command))
        .route("/purista/subscription/{topic}", post(event))
        .route(REACH, get(async || StatusCode::NO_CONTENT))
        .route(HEALTHZ, get(health))
        .fallback(async || status(StatusCode::NOT_FOUND))
        .layer(DefaultBodyLimit::max(app.config.max_body()))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authenticate))
        .with_state(app)
}

/// Lets in who shows the token. Who only asks whether we are well need not: orchestrators know no token.
async fn authenticate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(TOKEN);
    let is_right = |token: &SecretString| {
        let token = token.expose_secret().as_bytes();
        shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token)))
    };
    match &app.config.app_token {
        Some(token) if request.uri().path() != HEALTHZ && !is_right(token) => {
            status(StatusCode::UNAUTHORIZED)
        }
        _ => next.run(request).await,
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
            app.link.malformed(&error(ErrorKind::InvalidMessage, "receive").context(context));
            return status(StatusCode::BAD_REQUEST);
        }
        Ok(Err(error)) => {
            app.link.malformed(&error);
            return status(StatusCode::BAD_REQUEST);
        }
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            app.link.malformed(&error(ErrorKind::InvalidMessage, "receive").source(rejection));
            return status(StatusCode::PAYLOAD_TOO_LARGE);
        }
        // Its connection broke: who sent it knows.
        Err(_) => return status(StatusCode::BAD_REQUEST),
    };
    let Some(served) = app.routes.served(&name, &command) else { return status(StatusCode::NOT_FOUND) };
    match served.handle(Arc::new(command), deadline).await {
        Answer { status: StatusCode::OK, body } => json(StatusCode::OK, body),
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
    let received = match body {
        Ok(body) => cloud_event::received(&headers, &body),
        Err(rejection) if rejection.status() != StatusCode::PAYLOAD_TOO_LARGE => {
            return status(StatusCode::BAD_REQUEST);
        }
        Err(rejection) => {
            Err(Malformed::NoMessage(error(ErrorKind::InvalidMessage, "receive").source(rejection)))
        }
    };
    let received = match received {
        Ok(received) => received,
        Err(Malformed::NoCloudEvent(error)) => {
            app.link.malformed(&error);
            return status(StatusCode::BAD_REQUEST);
        }
        // To deliver it again would not help.
        Err(Malformed::NoMessage(error)) => {
            app.link.malformed(&error);
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

/// Answers with a status alone, in the words of the original.
fn status(status: StatusCode) -> Response {
    let reason = purista_core::StatusCode::new(status.as_u16()).reason();
    json(status, serde_json::json!({ "status": status.as_u16(), "message": reason }).to_string())
}

fn json(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
