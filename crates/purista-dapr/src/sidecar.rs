use std::{error::Error as StdError, sync::Arc, time::Duration};

use axum::http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use purista_cloudevents::STRUCTURED;
use purista_core::{Error, ErrorKind, Result};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::{
    config::Config,
    error::{Refusal, error},
};

/// Where a sidecar that shows the right token learns that it reached us, also while we shut down.
pub(crate) const REACH: &str = "/purista/reach";

/// The header in which tokens travel, in both directions.
pub(crate) const TOKEN: &str = "dapr-api-token";

/// The HTTP API of a sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    client: Arc<RwLock<Client>>,
    url: Url,
    pubsub_name: String,
    token: Option<HeaderValue>,
    /// How long it may take to answer what it answers by itself.
    patience: Duration,
    max_body: usize,
}

/// What a sidecar says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(rename = "id")]
    pub(crate) app_id: String,
    runtime_version: Option<String>,
    #[serde(default)]
    components: Vec<Component>,
    #[serde(default)]
    subscriptions: Vec<Subscription>,
    #[serde(default)]
    app_connection_properties: AppConnection,
}

#[derive(Debug, Deserialize)]
struct Component {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Subscription {
    pubsubname: String,
    topic: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AppConnection {
    port: u16,
    protocol: String,
    max_concurrency: i32,
}

/// Whether the sidecar reaches its app, as far as it can tell.
#[derive(Debug)]
pub(crate) enum Reach {
    Reached,
    /// It cannot call it, which what it delivers does not need.
    Unknown(Error),
    Unreached(Error),
}

impl Metadata {
    /// Says why no bridge can run beside it.
    pub(crate) fn unusable(&self) -> Option<String> {
        if self.runtime_version.is_none() {
            return Some("the sidecar does not tell its version: it is older than Dapr 1.11".to_owned());
        }
        let protocol = self.app_connection_properties.protocol.as_str();
        (self.app_port().is_some() && !matches!(protocol, "" | "http")).then(|| {
            format!("the sidecar's --app-protocol is {protocol}, and apps of this bridge speak http only")
        })
    }

    /// Returns whether it calls its app with so many requests at once only.
    pub(crate) const fn is_app_limited(&self) -> bool {
        self.app_connection_properties.max_concurrency > 0
    }

    /// Returns the port at which it calls its app, if it has one.
    pub(crate) fn app_port(&self) -> Option<u16> {
        Some(self.app_connection_properties.port).filter(|port| *port != 0)
    }

    /// Returns the type of a component.
    pub(crate) fn component_type(&self, name: &str) -> Option<&str> {
        let component = self.components.iter().find(|component| component.name == name)?;
        Some(&component.kind)
    }

    /// Returns whether it is subscribed to a topic of a component.
    pub(crate) fn is_subscribed(&self, pubsub_name: &str, topic: &str) -> bool {
        let is_it = |known: &Subscription| known.pubsubname == pubsub_name && known.topic == topic;
        self.subscriptions.iter().any(is_it)
    }
}

/// Why the sidecar did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It did not answer: the connection is lost. What was asked for may have happened.
    Lost(String),
    /// It answers that it failed.
    Refused(Error),
}

impl Failure {
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Lost(reason) => error(ErrorKind::Unavailable, operation).with_context(reason),
            Self::Refused(error) => error,
        }
    }
}

impl Sidecar {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let unusable = |context: &str| error(ErrorKind::InvalidConfig, "configure").with_context(context);
        let header = |token: &SecretString| {
            let mut value = HeaderValue::from_str(token.expose_secret())
                .map_err(|_| unusable("the API token is no value of a header"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        Ok(Self {
            client: Arc::new(RwLock::new(client(config.keep_alive)?)),
            url: config.sidecar.clone(),
            pubsub_name: config.pubsub_name.clone(),
            token: config.api_token.as_ref().map(header).transpose()?,
            patience: config.keep_alive,
            max_body: config.max_body(),
        })
    }

    fn client(&self) -> Client {
        self.client.read().clone()
    }

    /// Talks to it over new connections from now on: those that idle were lost with the others.
    pub(crate) fn connect_again(&self) -> Result<()> {
        *self.client.write() = client(self.patience)?;
        Ok(())
    }

    /// Asks what it says of itself.
    pub(crate) async fn metadata(&self) -> Result<Metadata, Failure> {
        let (status, body) = self.ask(&["v1.0", "metadata"]).await?;
        if !status.is_success() {
            return Err(Failure::Refused(Refusal::read(status, &body).into_error("start", 0, 0)));
        }
        serde_json::from_slice(&body).map_err(|cause| {
            let unreadable = error(ErrorKind::Unexpected, "start").with_source(cause);
            Failure::Refused(unreadable.with_context("what answers is no sidecar"))
        })
    }

    /// Asks whether it has subscribed to all that its app wants.
    pub(crate) async fn is_ready(&self) -> Result<bool, Failure> {
        self.ask(&["v1.0", "healthz"]).await.map(|(status, _)| status.is_success())
    }

    /// Calls its app through it.
    pub(crate) async fn reach(&self, app_id: &str) -> Result<Reach, Failure> {
        let path = ["v1.0", "invoke", app_id, "method"].into_iter().chain(REACH.trim_matches('/').split('/'));
        let (status, body) = self.ask(&path.collect::<Vec<_>>()).await?;
        if status.is_success() {
            return Ok(Reach::Reached);
        }
        let refusal = Refusal::read(status, &body);
        if refusal.is_of_api() || refusal.is_of_resolver() {
            return Ok(Reach::Unknown(refusal.into_error("start", 0, 0)));
        }
        if status == StatusCode::UNAUTHORIZED && !refusal.is_of_sidecar() {
            let context = "the sidecar's APP_API_TOKEN is not the app_token of this bridge";
            return Ok(Reach::Unreached(error(ErrorKind::Unauthenticated, "start").with_context(context)));
        }
        let cause = refusal.into_error("start", 0, 0);
        let unreached = error(ErrorKind::Unavailable, "start");
        let context = format!("the sidecar does not reach us: {cause}");
        Ok(Reach::Unreached(unreached.with_context(context).with_source(cause)))
    }

    /// Returns whether it has the API for calls: without it, no path of that is known.
    pub(crate) async fn can_call(&self) -> bool {
        let asked = self.ask(&["v1.0", "invoke", "nobody"]).await;
        asked.is_ok_and(|(status, body)| Refusal::read(status, &body).is_of_sidecar())
    }

    /// Calls a method of an app.
    pub(crate) async fn invoke(
        &self,
        app_id: &str,
        path: &str,
        body: Bytes,
        headers: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let segments = ["v1.0", "invoke", app_id, "method"].into_iter().chain(path.split('/'));
        let mut request = self.client().post(self.url(segments)).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.send(request.body(body)).await
    }

    /// Publishes a CloudEvent as it is. Returns when the component has it.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        event: Bytes,
        operation: &'static str,
    ) -> Result<(), Failure> {
        // The slashes of a topic are not escaped: the sidecar would keep that.
        let segments = ["v1.0", "publish", &self.pubsub_name].into_iter().chain(topic.split('/'));
        let mut url = self.url(segments);
        // Otherwise the sidecar reads it and writes it anew.
        url.set_query(Some("metadata.rawPayload=true"));
        let size = event.len();
        let request = self.client().post(url).header(CONTENT_TYPE, STRUCTURED).body(event);
        match self.send(request).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, body) => {
                Err(Failure::Refused(Refusal::read(status, &body).into_error(operation, size, self.max_body)))
            }
        }
    }

    async fn ask(&self, segments: &[&str]) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.client().get(self.url(segments.iter().copied()));
        let answer = timeout(self.patience, self.send(request)).await;
        answer.unwrap_or_else(|_| Err(Failure::Lost("the sidecar is silent".to_owned())))
    }

    fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        url
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<(StatusCode, Bytes), Failure> {
        if let Some(token) = &self.token {
            request = request.header(TOKEN, token.clone());
        }
        let response = request.send().await.map_err(|cause| Failure::Lost(innermost(&cause)))?;
        let status = response.status();
        self.body(response).await.map(|body| (status, body))
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(part) = response.chunk().await.map_err(|cause| Failure::Lost(innermost(&cause)))? {
            if body.len() + part.len() > self.max_body {
                let size = body.len() + part.len();
                let kind = ErrorKind::payload_too_large(size, self.max_body);
                return Err(Failure::Refused(error(kind, "invoke")));
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }
}

fn client(keep_alive: Duration) -> Result<Client> {
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(keep_alive)
        .pool_idle_timeout(keep_alive)
        .build();
    client.map_err(|cause| {
        error(ErrorKind::InvalidConfig, "configure")
            .with_context("there is no HTTP client")
            .with_source(cause)
    })
}

/// Returns what the last of the causes says: it names no URL.
fn innermost(cause: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = cause;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_says_what_it_is() {
        let text = r#"{"id":"app-user-v1","runtimeVersion":"1.18.1",
            "components":[{"name":"pubsub","type":"pubsub.redis","version":"v1"}],
            "subscriptions":[{"pubsubname":"pubsub","topic":"a","rules":[{"path":"x"}],"deadLetterTopic":""}],
            "appConnectionProperties":{"port":8080,"protocol":"http"}}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!((metadata.app_id.as_str(), metadata.app_port()), ("app-user-v1", Some(8_080)));
        assert_eq!(metadata.component_type("pubsub"), Some("pubsub.redis"));
        assert!(metadata.is_subscribed("pubsub", "a") && !metadata.is_subscribed("pubsub", "b"));
        assert_eq!(metadata.unusable(), None);
        let read = |text: &str| serde_json::from_str::<Metadata>(text).unwrap();
        let bare = read(r#"{"id":"app"}"#);
        assert_eq!(bare.app_port(), None);
        assert!(bare.unusable().unwrap().contains("older than"), "{bare:?}");
        let grpc = r#"{"id":"app","runtimeVersion":"1.18.1","appConnectionProperties":{"port":1,"protocol":"grpc"}}"#;
        assert!(read(grpc).unusable().unwrap().contains("--app-protocol"));
        assert!(read(&grpc.replace("\"port\":1", "\"port\":0")).unusable().is_none());
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        let config = Config::new("dapr://localhost").unwrap();
        let url = Sidecar::new(&config).unwrap().url(["v1.0", "invoke", "a/../b?c#d", "method"]);
        assert_eq!(url.path(), "/v1.0/invoke/a%2F..%2Fb%3Fc%23d/method");
    }
}
