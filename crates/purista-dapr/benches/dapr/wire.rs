//! What the bridge puts on the wire, for the raw client to send the very same.

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode,
        header::{CONTENT_LENGTH, HOST},
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use purista_integration_tests::free_port;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{client::client, server};

/// Stands before a sidecar, and listens to what is posted to it.
pub(crate) struct Wire {
    url: String,
    sent: mpsc::UnboundedReceiver<Sent>,
    _server: AbortOnDropHandle<anyhow::Result<()>>,
}

/// A request as it was posted, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// The path, with the query.
    pub(crate) path: String,
    /// The headers that a client does not set by itself.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) answer: Bytes,
}

/// What it takes to pass requests on.
#[derive(Clone)]
struct Tap {
    client: Client,
    sidecar: String,
    sent: mpsc::UnboundedSender<Sent>,
}

impl Wire {
    pub(crate) async fn listen(sidecar: &str) -> anyhow::Result<Self> {
        let ((sender, sent), port) = (mpsc::unbounded_channel(), free_port()?);
        let tap = Tap { client: client()?, sidecar: sidecar.to_owned(), sent: sender };
        let server = server::serve(port, Router::new().fallback(pass_on).with_state(tap)).await?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { url, sent, _server: AbortOnDropHandle::new(server) })
    }

    /// Returns where the sidecar is found through this.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the next request that was posted.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Sent> {
        self.sent.recv().await.context("nobody listens any more")
    }
}

async fn pass_on(State(tap): State<Tap>, request: Request) -> Response {
    match tap.pass_on(request).await {
        Ok((status, body)) => (status, body).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

impl Tap {
    async fn pass_on(&self, request: Request) -> anyhow::Result<(StatusCode, Bytes)> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await?;
        let path = head.uri.path_and_query().context("a request without a path")?.to_string();
        let mut headers = head.headers;
        headers.remove(HOST);
        headers.remove(CONTENT_LENGTH);
        let url = format!("{}{path}", self.sidecar);
        let request = self.client.request(head.method.clone(), url).headers(headers.clone());
        let response = request.body(body.clone()).send().await?;
        let (status, answer) = (response.status(), response.bytes().await?);
        if head.method == Method::POST {
            self.sent.send(Sent { path, headers, body, answer: answer.clone() })?;
        }
        Ok((status, answer))
    }
}
