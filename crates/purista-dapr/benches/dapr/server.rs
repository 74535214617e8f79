//! The raw app in its strongest form: no delays, and nothing but what a sidecar needs.

use std::net::Ipv4Addr;

use axum::{Router, response::Response};
use hyper::{
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// Serves at a port, until the task is aborted.
pub(crate) async fn serve(port: u16, router: Router) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let service = TowerToHyperService::new(router);
    Ok(tokio::spawn(async move {
        // With them, connections end.
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
            connections.spawn(connection);
        }
    }))
}

/// Answers with JSON.
pub(crate) fn json(body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
