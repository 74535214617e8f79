use std::path::Path;

use serde_json::{Map, Value, json};

use super::Registry;

/// What the pub/sub component `pubsub` of a sidecar is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Component {
    /// Events reach only the application of the sidecar that they are published by, and are lost with it.
    InMemory,
    /// Events wait in a durable queue for each application and topic.
    RabbitMq {
        /// Where the node is, with the user.
        url: String,
    },
    /// Events are kept by streams, which must exist before a sidecar subscribes. An application has a single consumer,
    /// so it gets the events of the first of its topics only.
    JetStream {
        /// Where the server is.
        url: String,
    },
}

/// The configuration of a sidecar. What is not said here is daprd's default.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    app_id: String,
    app_port: u16,
    http_port: Option<u16>,
    component: Component,
    metadata: Vec<(String, String)>,
    registry: Registry,
    spec: Map<String, Value>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// The ports that a sidecar listens on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) grpc: u16,
    /// For the other sidecars.
    pub(super) internal: u16,
    /// For the harness: without a token, and only what tells about the sidecar.
    pub(super) public: u16,
}

impl SidecarConfig {
    /// Configures the sidecar of an application that listens on the port, now or later.
    #[must_use]
    pub fn new(app_id: impl Into<String>, app_port: u16, component: Component, registry: &Registry) -> Self {
        let app_id = app_id.into();
        let metadata = component.metadata(&app_id);
        Self {
            app_id,
            app_port,
            http_port: None,
            metadata,
            component,
            registry: registry.clone(),
            spec: Map::new(),
            arguments: Vec::new(),
            environment: vec![("DAPR_HOST_IP", "127.0.0.1".into())],
        }
    }

    /// Serves only who shows this token.
    #[must_use]
    pub fn with_api_token(self, token: impl Into<String>) -> Self {
        self.with_variable("DAPR_API_TOKEN", token.into())
    }

    /// Shows this token to the application.
    #[must_use]
    pub fn with_app_token(self, token: impl Into<String>) -> Self {
        self.with_variable("APP_API_TOKEN", token.into())
    }

    /// Serves its API on this port, which an application may know before there is a sidecar; on a free one by default.
    #[must_use]
    pub const fn with_http_port(mut self, port: u16) -> Self {
        self.http_port = Some(port);
        self
    }

    /// Accepts bodies up to this size.
    #[must_use]
    pub fn with_max_body_size(self, bytes: usize) -> Self {
        self.with_argument(format!("--max-body-size={bytes}"))
    }

    /// Sets a part of the specification in its `Configuration`, such as `api`; without a value it gets none.
    #[must_use]
    pub fn with_spec(mut self, part: impl Into<String>, value: Option<Value>) -> Self {
        self.spec.insert(part.into(), value.unwrap_or(Value::Null));
        self
    }

    /// Adds an argument of the command line.
    #[must_use]
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a property of the component.
    #[must_use]
    pub fn with_component_metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.metadata.retain(|(other, _)| *other != name);
        self.metadata.push((name, value.into()));
        self
    }

    pub(super) fn app_id(&self) -> &str {
        &self.app_id
    }

    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) const fn http_port(&self) -> Option<u16> {
        self.http_port
    }

    /// Returns the environment, as `env` takes it.
    pub(super) fn environment(&self) -> impl Iterator<Item = String> {
        self.environment.iter().map(|(name, value)| format!("{name}={value}"))
    }

    /// Returns the arguments of the command line.
    pub(super) fn arguments(&self, ports: Ports, resources: &Path, file: &Path) -> Vec<String> {
        let Ports { http, grpc, internal, public } = ports;
        let mut arguments = vec![
            format!("--app-id={}", self.app_id),
            format!("--app-port={}", self.app_port),
            format!("--dapr-http-port={http}"),
            format!("--dapr-grpc-port={grpc}"),
            format!("--dapr-internal-grpc-port={internal}"),
            format!("--dapr-public-port={public}"),
            "--dapr-listen-addresses=127.0.0.1".into(),
            "--dapr-internal-grpc-listen-address=127.0.0.1".into(),
            "--dapr-public-listen-address=127.0.0.1".into(),
            "--enable-metrics=false".into(),
            format!("--resources-path={}", resources.display()),
            format!("--config={}", file.display()),
        ];
        arguments.extend_from_slice(&self.arguments);
        arguments
    }

    /// Writes the component `pubsub`. YAML may be JSON.
    pub(super) fn component(&self) -> String {
        let metadata: Vec<_> =
            self.metadata.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        let spec = json!({ "type": self.component.kind(), "version": "v1", "metadata": metadata });
        resource("Component", "pubsub", &spec)
    }

    /// Writes the configuration file.
    pub(super) fn text(&self) -> String {
        // The registration ends after the interval, and is renewed the timeout before that: on a busy machine it may come
        // late.
        let configuration = json!({
            "connectionString": self.registry.file(), "updateInterval": "5s", "timeout": "4s", "busyTimeout": "3s",
        });
        let resolution = json!({ "component": "sqlite", "version": "v1", "configuration": configuration });
        let mut spec = Map::from_iter([("nameResolution".to_owned(), resolution)]);
        spec.extend(self.spec.clone());
        spec.retain(|_, part| !part.is_null());
        resource("Configuration", "config", &spec.into())
    }

    fn with_variable(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }
}

impl Component {
    const fn kind(&self) -> &'static str {
        match self {
            Self::InMemory => "pubsub.in-memory",
            Self::RabbitMq { .. } => "pubsub.rabbitmq",
            Self::JetStream { .. } => "pubsub.jetstream",
        }
    }

    /// Returns the properties with which it loses least, and instances of an application share its events.
    fn metadata(&self, app_id: &str) -> Vec<(String, String)> {
        let properties: &[_] = match self {
            Self::InMemory => &[],
            Self::RabbitMq { url } => &[
                ("connectionString", url.as_str()),
                ("deliveryMode", "2"),
                ("deletedWhenUnused", "false"),
                ("requeueInFailure", "true"),
                ("publisherConfirm", "true"),
            ],
            Self::JetStream { url } => {
                &[("natsURL", url), ("durableName", app_id), ("queueGroupName", app_id)]
            }
        };
        properties.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

fn resource(kind: &str, name: &str, spec: &Value) -> String {
    let metadata = json!({ "name": name });
    json!({ "apiVersion": "dapr.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec }).to_string()
}
