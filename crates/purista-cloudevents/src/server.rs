//! The HTTP server to which messages are delivered.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::Response,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use purista_core::{Error, ErrorKind, Result, adapter::Backoff};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1_024;

/// An HTTP/1.1 server with bounds: heads of at most 64 KiB, and a time limit for them. The limit for bodies is the
/// router's.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    closing: CancellationToken,
    server: AbortOnDropHandle<()>,
}

impl Server {
    /// Opens it. Who begins a request or keeps a connection open sends the next head within the `header_timeout`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the address cannot be listened to.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open(address: SocketAddr, router: Router, header_timeout: Duration) -> Result<Self> {
        let failed = |cause| {
            Error::new(ErrorKind::Unavailable, "start")
                .with_context(format!("cannot listen to {address}"))
                .with_source(cause)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let service = TowerToHyperService::new(router);
        let closing = CancellationToken::new();
        let server = tokio::spawn(serve(listener, service, header_timeout, closing.clone()));
        Ok(Self { address, closing, server: AbortOnDropHandle::new(server) })
    }

    /// Returns where it listens: the port that the system chose if it was to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits for those that run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts off those that run.
    pub async fn close(self) {
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
                tracing::warn!(%cause, "no connection can be accepted");
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

/// Lets in who shows this token in this header, and on one path everybody. The time to compare does not tell how much of
/// a wrong token is right.
pub fn with_token(
    router: Router,
    header: &'static str,
    token: SecretString,
    open_path: &'static str,
) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let shown = request.headers().get(header);
        let token = token.expose_secret().as_bytes();
        let is_right = shown.is_some_and(|shown| bool::from(shown.as_bytes().ct_eq(token)));
        let is_let_in = is_right || request.uri().path() == open_path;
        async move { if is_let_in { next.run(request).await } else { status(StatusCode::UNAUTHORIZED) } }
    }))
}

/// Answers with a status alone, in the words of the original.
#[must_use]
pub fn status(status: StatusCode) -> Response {
    let reason = purista_core::StatusCode::new(status.as_u16()).reason();
    json(status, serde_json::json!({ "status": status.as_u16(), "message": reason }).to_string())
}

/// Answers with JSON.
pub fn json(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
