use std::time::Duration;

use purista_core::{
    Result,
    adapter::{EngineConfig, Variables},
};

use crate::{MqttBridge, config::Config, transport::MqttTransport};

/// Configures an [`MqttBridge`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct MqttBridgeBuilder {
    config: Result<Config>,
    engine: EngineConfig,
}

impl MqttBridgeBuilder {
    purista_core::builder_start! {
        Config, MqttTransport => MqttBridge;
        /// | `PURISTA_MQTT_URL` | the servers, needed |
        /// | `PURISTA_MQTT_SESSION_EXPIRY` | [`persistent_sessions`](Self::persistent_sessions), in seconds |
        "PURISTA_MQTT_USER" and "PURISTA_MQTT_PASSWORD" => user_and_password;
        "PURISTA_MQTT_CA" => root_certificates;
        "PURISTA_MQTT_CERTIFICATE" and "PURISTA_MQTT_KEY" => client_certificate;
        "PURISTA_MQTT_PREFIX" => prefix;
        "PURISTA_INSTANCE_ID" => instance_id;
    }

    purista_core::url_options! {
        Config, "PURISTA_MQTT_URL";
        tables [SERVER_OPTIONS, ENGINE_OPTIONS];
        options {
            share_name: text;
            share_prefix: text;
            empty_part: text;
            persistent_sessions;
            receive_maximum;
            pending_limits: pair;
        }
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self> {
        Self::new(variables.required("PURISTA_MQTT_URL")?).with_all_variables(variables)
    }

    fn with_all_variables(self, variables: &Variables) -> Result<Self> {
        let builder = self.with_variables(variables)?;
        Ok(match variables.number("PURISTA_MQTT_SESSION_EXPIRY")? {
            Some(seconds) => builder.persistent_sessions(Duration::from_secs(seconds)),
            None => builder,
        })
    }

    purista_core::server_setters! {
        "`mqtts://` and `wss://`";
        /// Sets the first level of all topics, to separate systems that share a broker; `purista` by default, as with the
        /// TypeScript original. At most 64 bytes.
        prefix;
        /// Sets after how long without traffic the bridge pings the broker, in seconds, rounded down; 10 s by default. The
        /// connection counts as lost after one and a half times that without an answer.
        keep_alive;
        /// Limits payload and parameter together, in bytes; 1 MiB by default, or what the broker takes less room for the
        /// envelope if that is less. Larger messages of others do not come: the broker drops them.
        max_payload;
    }

    purista_core::engine_setters!(engine);

    /// Sets the group whose members share commands, the `shareTopicName` of the TypeScript original; `sharedpurista` by
    /// default, as there. Instances of both languages need the same group: otherwise each language executes each command.
    pub fn share_name(self, name: impl Into<String>) -> Self {
        self.set(|config| config.shares.commands = name.into())
    }

    /// Sets the prefix of shared subscriptions, the `shareTopicPrefix` of the TypeScript original; `$share` by default, as
    /// in MQTT 5. Another prefix needs a broker that supports it: a standard broker delivers nothing to it.
    pub fn share_prefix(self, prefix: impl Into<String>) -> Self {
        self.set(|config| config.shares.prefix = prefix.into())
    }

    /// Sets what stands for an absent part in topics, as `emptyTopicPartString` of the TypeScript original does, where that
    /// is not at its default: `__none__`, which is converted to `none`.
    pub fn empty_part(self, marker: impl Into<String>) -> Self {
        self.set(|config| config.shares.empty_part = Some(marker.into()))
    }

    /// Lets the broker keep the messages of a subscription while its instance is away, for so long, in seconds, rounded up:
    /// subscriptions can be durable then. By default they cannot.
    ///
    /// The instance has to come back under the same [`instance_id`](Self::instance_id), which must be set, as what waits
    /// in its sessions waits for it alone. The broker has to be configured to keep them: see the README.
    pub fn persistent_sessions(self, expiry: Duration) -> Self {
        self.set(|config| config.session_expiry = Some(expiry))
    }

    /// Limits how many messages of each subscription the broker hands over before one of them is acknowledged; 1,024 by
    /// default.
    pub fn receive_maximum(self, messages: u16) -> Self {
        self.set(|config| config.receive_maximum = messages)
    }

    /// Limits how many messages, and how many bytes, wait in this process for one command; 65,536 and 64 MiB by default.
    /// What comes beyond that is refused to its caller.
    pub fn pending_limits(self, messages: usize, bytes: usize) -> Self {
        self.set(|config| (config.pending_messages, config.pending_bytes) = (messages, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<MqttBridgeBuilder> {
        MqttBridgeBuilder::from_variables(&variables.iter().copied().collect())
    }

    #[test]
    fn the_environment_configures() {
        let builder = from(&[
            ("PURISTA_MQTT_URL", "mqtts://host"),
            ("PURISTA_MQTT_USER", "ada"),
            ("PURISTA_MQTT_PASSWORD", "hidden"),
            ("PURISTA_MQTT_SESSION_EXPIRY", "60"),
            ("PURISTA_MQTT_PREFIX", "acme"),
        ]);
        let config = builder.unwrap().config.unwrap();
        assert!(config.credentials.as_ref().is_some_and(|login| login.user == "ada"));
        assert_eq!(config.session_expiry, Some(Duration::from_secs(60)));
        assert_eq!(config.connection.prefix, "acme");
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn sessions_expire_after_seconds() {
        let expiring =
            |expiry| from(&[("PURISTA_MQTT_URL", "mqtt://host"), ("PURISTA_MQTT_SESSION_EXPIRY", expiry)]);
        assert!(expiring("60").is_ok());
        assert!(expiring("long").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let builder = || MqttBridge::builder("mqtt://host");
        assert!(builder().build().is_ok());
        let provider = || std::future::ready(Ok(purista_core::Credentials::user_and_password("ada", "pw")));
        assert!(builder().credentials_provider(provider).build().is_ok());
        let broken = [
            MqttBridge::builder("mqtt://ada@host").credentials_provider(provider),
            builder().credentials_provider(provider).user_and_password("ada", "pw"),
            MqttBridge::builder("http://host"),
            builder().prefix(""),
            builder().connect_timeout(Duration::ZERO),
            builder().prefix("$SYS"),
            builder().share_name(""),
            builder().share_name("a/b"),
            builder().share_prefix("+"),
            builder().empty_part("#"),
            builder().keep_alive(Duration::from_millis(999)),
            builder().keep_alive(Duration::from_secs(65_536)),
            builder().persistent_sessions(Duration::from_millis(999)),
            builder().persistent_sessions(Duration::from_millis(4_294_967_295_001)),
            builder().receive_maximum(0),
            builder().pending_limits(0, 1),
            builder().max_payload(usize::MAX),
            builder().client_certificate("certificate.pem", "key.pem"),
            builder().root_certificates("ca.pem"),
            builder().user_and_password("a\0b", ""),
            builder().user_and_password("ada", "x".repeat(65_536)),
            builder().max_pending_calls(0),
        ];
        assert!(broken.into_iter().all(|builder| builder.build().is_err()));
    }
}
