use std::{net::SocketAddr, time::Duration};

use purista_core::{
    Capability, Result, ServiceAddress,
    adapter::{EngineConfig, Variables},
};

use crate::{
    DaprBridge,
    config::{AppIds, Config, HealthTopic},
    transport::DaprTransport,
};

/// Configures a [`DaprBridge`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct DaprBridgeBuilder {
    config: Result<Config>,
    engine: EngineConfig,
}

impl DaprBridgeBuilder {
    purista_core::builder_start! {
        Config, DaprTransport => DaprBridge;
        /// | `DAPR_HTTP_PORT` | the port of the sidecar on this host; 3500 without it |
        /// | `APP_PORT` | [`app_address`](Self::app_address), a port on `127.0.0.1` |
        "APP_ID" => app_id;
        "DAPR_API_TOKEN" => api_token;
        "APP_API_TOKEN" => app_token;
        "PURISTA_DAPR_PUBSUB" => pubsub_name;
        "PURISTA_DAPR_ALL_MESSAGES_TOPIC" => all_messages_topic;
        "PURISTA_INSTANCE_ID" => instance_id;
        ///
        /// The names that begin with `DAPR` and `APP` are those of Dapr.
    }

    purista_core::url_options! {
        Config;
        tables [ENGINE_OPTIONS];
        at_most_one ["health_topic", "no_health_topic"];
        options {
            app_address = |builder, value| Ok(builder.app_address(value.read::<SocketAddr>()?));
            app_id: text;
            pubsub_name: text;
            component_type: text;
            component_gives = |builder, value| Ok(builder.component_gives(value.list()?));
            all_messages_topic: text;
            dead_letter_topic: text;
            health_topic: text;
            no_health_topic: flag;
            api_token: text;
            app_token: text;
            connect_timeout;
            keep_alive;
            max_reconnect_delay;
            header_timeout;
            max_payload;
        }
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self> {
        let sidecar = match variables.number::<u16>("DAPR_HTTP_PORT")? {
            Some(port) => format!("dapr://127.0.0.1:{port}"),
            None => "dapr://127.0.0.1".to_owned(),
        };
        Self::new(&sidecar).with_all_variables(variables)
    }

    fn with_all_variables(self, variables: &Variables) -> Result<Self> {
        let builder = self.with_variables(variables)?;
        Ok(match variables.number::<u16>("APP_PORT")? {
            Some(port) => builder.app_address(([127, 0, 0, 1], port)),
            None => builder,
        })
    }

    /// Listens to the sidecar at this address; by default at the port of `127.0.0.1` that the sidecar says it calls (its
    /// `--app-port`). Who can reach it can send messages: beyond the loopback, set an [`app_token`](Self::app_token).
    pub fn app_address(self, address: impl Into<SocketAddr>) -> Self {
        let address = Some(address.into());
        self.set(|config| config.app_address = address)
    }

    /// Expects the sidecar to have this app id; by default any. The start fails if it has another one.
    pub fn app_id(self, app_id: impl Into<String>) -> Self {
        let app_id = Some(app_id.into());
        self.set(|config| config.app_id = app_id)
    }

    /// Sets how the app id of a service is found, by its name and version: to call it, and to know which commands can be
    /// served beside this sidecar. By default it is `app-<name>-v<version>`, both in kebab case, as with the TypeScript
    /// original: one service for each app.
    pub fn app_ids(self, find: impl Fn(&ServiceAddress) -> String + Send + Sync + 'static) -> Self {
        self.set(|config| config.app_ids = AppIds::new(find))
    }

    /// Uses the pub/sub component of this name; `pubsub` by default, as the TypeScript original does.
    pub fn pubsub_name(self, name: impl Into<String>) -> Self {
        self.set(|config| config.pubsub_name = name.into())
    }

    /// Expects the component to be of this type, such as `pubsub.redis`; by default any. With it,
    /// [`capabilities`](purista_core::EventBridge::capabilities) are those of the component before the start, too. The
    /// start fails if it is of another type.
    pub fn component_type(self, kind: impl Into<String>) -> Self {
        let kind = Some(kind.into());
        self.set(|config| config.component_type = kind)
    }

    /// Declares capabilities that the component has by its configuration, which a sidecar does not report; the README lists
    /// the settings. Capabilities that do not depend on the component are refused. The in-memory component has none of them,
    /// whatever is declared.
    pub fn component_gives(self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.set(|config| config.component_gives = capabilities.into_iter().collect())
    }

    /// Publishes each message to this topic as well, for subscriptions that name no event; by default none is, and these
    /// subscriptions are refused. Set it on all bridges alike.
    pub fn all_messages_topic(self, topic: impl Into<String>) -> Self {
        let topic = Some(topic.into());
        self.set(|config| config.all_messages_topic = topic)
    }

    /// Publishes dead letters to this topic; `purista-dead-letter` by default.
    pub fn dead_letter_topic(self, topic: impl Into<String>) -> Self {
        self.set(|config| config.dead_letter_topic = topic.into())
    }

    /// Publishes a small event to this topic twice in each [`keep_alive`](Self::keep_alive), because a sidecar does not
    /// report whether its component works. Subscriptions count as not consuming while that fails. The default is
    /// `purista-health` with RabbitMQ, which drops events without subscribers, and no topic with other components, which
    /// may keep them: without a topic, the bridge notices a failure by other publishes only.
    pub fn health_topic(self, topic: impl Into<String>) -> Self {
        let topic = HealthTopic::Named(topic.into());
        self.set(|config| config.health_topic = topic)
    }

    /// Does not publish events to check the component.
    pub fn no_health_topic(self) -> Self {
        self.set(|config| config.health_topic = HealthTopic::None)
    }

    /// Authenticates at the sidecar with this token.
    pub fn api_token(self, token: impl Into<String>) -> Self {
        let token = Some(token.into().into());
        self.set(|config| config.api_token = token)
    }

    /// Accepts requests only from a sidecar that sends this token.
    pub fn app_token(self, token: impl Into<String>) -> Self {
        let token = Some(token.into().into());
        self.set(|config| config.app_token = token)
    }

    purista_core::engine_setters!(engine);

    /// Limits how long the start waits for a sidecar that is not there yet, and then for it to subscribe; 5 s by default.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.connect_timeout = timeout)
    }

    /// Sets after which time without an answer the sidecar counts as lost; 5 s by default. It is asked twice as often.
    pub fn keep_alive(self, time: Duration) -> Self {
        self.set(|config| config.keep_alive = time)
    }

    /// Limits the pause between two attempts to reach a lost sidecar, which starts at 100 ms; 2 s by default.
    pub fn max_reconnect_delay(self, delay: Duration) -> Self {
        self.set(|config| config.max_reconnect_delay = delay)
    }

    /// Limits how long the head of the next request may take to come on a connection; 120 s by default. Keep it above the
    /// 90 s for which a sidecar keeps a connection that it does not use.
    pub fn header_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.header_timeout = timeout)
    }

    /// Limits payload and parameter together, in bytes; 1 MiB by default. The sidecar has its own limit for all of a
    /// message, 4 MiB by default (`--max-body-size`).
    pub fn max_payload(self, bytes: usize) -> Self {
        self.set(|config| config.max_payload = bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<DaprBridgeBuilder> {
        DaprBridgeBuilder::from_variables(&variables.iter().copied().collect())
    }

    #[test]
    fn the_environment_configures() {
        let builder = from(&[
            ("DAPR_HTTP_PORT", "3600"),
            ("APP_PORT", "8080"),
            ("APP_ID", "app-user-v1"),
            ("DAPR_API_TOKEN", "hidden"),
            ("APP_API_TOKEN", "hidden"),
        ]);
        let config = builder.unwrap().config.unwrap();
        assert_eq!(config.sidecar.as_str(), "http://127.0.0.1:3600/");
        assert_eq!(config.app_address.unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(config.app_id.as_deref(), Some("app-user-v1"));
        assert!(!format!("{config:?}").contains("hidden"));
        assert!(from(&[]).is_ok());
        assert!(from(&[("APP_PORT", "http")]).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let builder = || DaprBridge::builder("dapr://host");
        assert!(builder().build().is_ok());
        let broken = [
            DaprBridge::builder("mqtt://host"),
            builder().app_id(""),
            builder().pubsub_name(""),
            builder().component_gives([Capability::MessageExpiry]),
            builder().all_messages_topic("a/b"),
            builder().all_messages_topic("purista-dead-letter"),
            builder().dead_letter_topic(""),
            builder().health_topic("a/b"),
            builder().health_topic("purista-dead-letter"),
            builder().connect_timeout(Duration::ZERO),
            builder().max_payload(0),
            builder().max_payload(usize::MAX),
            builder().max_pending_calls(0),
        ];
        assert!(broken.into_iter().all(|builder| builder.build().is_err()));
    }
}
