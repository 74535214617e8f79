use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent,
    http::{Method, Request},
};

/// The interface by which a broker tells about itself. It blocks.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: Agent,
    url: String,
    /// The header that tells who asks.
    authorization: Option<String>,
}

impl Http {
    /// Asks at a URL, to which paths are added.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .proxy(None); // the one of the environment is for other hosts
        Self { agent: config.build().into(), url: url.into(), authorization: None }
    }

    /// Asks as a user.
    pub(crate) fn with_user(mut self, name: &str, password: &str) -> Self {
        self.authorization = Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))));
        self
    }

    /// Gets JSON.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        parse(path, &self.get(path)?)
    }

    /// Gets text.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        self.send(Method::GET, path, Vec::new())
    }

    /// Sends JSON, and reads JSON.
    pub(crate) fn ask<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        parse(path, &self.send(Method::POST, path, serde_json::to_vec(body)?)?)
    }

    /// Puts JSON.
    pub(crate) fn put(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        self.send(Method::PUT, path, serde_json::to_vec(body)?).map(drop)
    }

    /// Deletes what is at the path.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, Vec::new()).map(drop)
    }

    fn send(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
        let url = format!("{}/{path}", self.url);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body).with_context(|| url.clone())?;
        let mut answer = self.agent.run(request).with_context(|| url.clone())?;
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_string();
        let body = body.with_context(|| url.clone())?;
        if !answer.status().is_success() {
            bail!("{url}: {} {body}", answer.status());
        }
        Ok(body)
    }
}

fn parse<T: DeserializeOwned>(path: &str, text: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).with_context(|| format!("answer to {path}"))
}
