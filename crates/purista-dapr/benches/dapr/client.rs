//! The raw client in its strongest form: one request, made in advance, over connections that are kept.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use purista_core::adapter::Backoff;
use reqwest::{
    Client, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

/// How long a request may take, as with ours.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Sends a request again and again.
#[derive(Debug)]
pub(crate) struct Caller {
    client: Client,
    request: Request,
}

impl Caller {
    pub(crate) fn new(url: &str, headers: HeaderMap, body: Bytes) -> anyhow::Result<Self> {
        let mut request = Request::new(Method::POST, url.parse()?);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        *request.timeout_mut() = Some(TIME_LIMIT);
        Ok(Self { client: client()?, request })
    }

    /// Sends it, and reads the whole answer.
    pub(crate) async fn call(&self) -> anyhow::Result<()> {
        let request = self.request.try_clone().context("a request of bytes has copies")?;
        let answer = self.client.execute(request).await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        ensure!(status.is_success(), "the answer is {status}: {body:?}");
        Ok(())
    }
}

/// Waits until a sidecar has reached its app, and subscribed to what that wants.
pub(crate) async fn until_ready(sidecar: &str) -> anyhow::Result<()> {
    let (client, url) = (client()?, format!("{sidecar}/v1.0/healthz"));
    let mut backoff = Backoff::default();
    while client.get(&url).send().await?.status() != StatusCode::NO_CONTENT {
        tokio::time::sleep(backoff.next_delay()).await;
    }
    Ok(())
}

/// Returns the headers of a request with JSON.
pub(crate) fn json() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()
}
