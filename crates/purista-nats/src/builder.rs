use std::path::PathBuf;

use purista_core::{
    Error, Result,
    adapter::{EngineConfig, Variables},
};

use crate::{
    JetStreamConfig, NatsBridge,
    config::{Config, Credentials},
    transport::NatsTransport,
};

/// Configures a [`NatsBridge`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct NatsBridgeBuilder {
    config: Result<Config>,
    engine: EngineConfig,
}

impl NatsBridgeBuilder {
    purista_core::builder_start! {
        Config, NatsTransport => NatsBridge;
        /// | `PURISTA_NATS_URL` | the servers, needed |
        "PURISTA_NATS_USER" and "PURISTA_NATS_PASSWORD" => user_and_password;
        "PURISTA_NATS_TOKEN" => token;
        "PURISTA_NATS_NKEY" => nkey;
        "PURISTA_NATS_CREDENTIALS" => credentials_file;
        "PURISTA_NATS_CA" => root_certificates;
        "PURISTA_NATS_CERTIFICATE" and "PURISTA_NATS_KEY" => client_certificate;
        "PURISTA_NATS_PREFIX" => prefix;
        "PURISTA_INSTANCE_ID" => instance_id;
    }

    purista_core::url_options! {
        Config, "PURISTA_NATS_URL";
        tables [SERVER_OPTIONS, ENGINE_OPTIONS];
        at_most_one ["nkey", "credentials_file", "@"];
        options {
            nkey: text;
            credentials_file: text;
            require_tls = |builder, value| match (value.read()?, &builder.config) {
                (true, _) => Ok(builder.require_tls()),
                (false, Ok(config)) if config.connection.servers.is_encrypted() => {
                    Err(Error::invalid_config("tls:// requires TLS, and require_tls=false contradicts it"))
                }
                (false, _) => Ok(builder),
            };
            empty_part: text;
            inbox_prefix: text;
            pending_limits: pair;
            // Before the options of what is kept in it.
            without_jetstream: flag;
            jetstream_max_bytes = |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_max_bytes);
            jetstream_max_messages =
                |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_max_messages);
            jetstream_max_messages_per_subject =
                |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_max_messages_per_subject);
            jetstream_max_age = |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_max_age);
            jetstream_max_dead_letters =
                |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_max_dead_letters);
            jetstream_replicas = |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_replicas);
            jetstream_duplicate_window =
                |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_duplicate_window);
            jetstream_ack_wait = |builder, value| builder.in_jetstream(value.read()?, JetStreamConfig::with_ack_wait);
        }
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self> {
        Self::new(variables.required("PURISTA_NATS_URL")?).with_all_variables(variables)
    }

    fn with_all_variables(self, variables: &Variables) -> Result<Self> {
        variables.at_most_one(&[
            "PURISTA_NATS_USER",
            "PURISTA_NATS_TOKEN",
            "PURISTA_NATS_NKEY",
            "PURISTA_NATS_CREDENTIALS",
        ])?;
        self.with_variables(variables)
    }

    /// Sets a part of what is configured about JetStream.
    fn in_jetstream<V>(self, value: V, set: fn(JetStreamConfig, V) -> JetStreamConfig) -> Result<Self> {
        if matches!(&self.config, Ok(Config { jetstream: None, .. })) {
            return Err(Error::invalid_config("without JetStream there are no options of it"));
        }
        Ok(self
            .set(|config| config.jetstream = config.jetstream.take().map(|jetstream| set(jetstream, value))))
    }

    /// Authenticates with a token.
    pub fn token(self, token: impl Into<String>) -> Self {
        self.set(|config| config.credentials = Credentials::Token(token.into().into()))
    }

    /// Authenticates with the seed of an NKey.
    pub fn nkey(self, seed: impl Into<String>) -> Self {
        self.set(|config| config.credentials = Credentials::NKey(seed.into().into()))
    }

    /// Authenticates with the JWT and the seed of a credentials file, which is read at the start.
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        self.set(|config| config.credentials = Credentials::File(path.into()))
    }

    /// Requires encrypted connections to servers at `nats://`, as `tls://` does. Without both, the server decides in its
    /// greeting whether the connection is encrypted.
    pub fn require_tls(self) -> Self {
        self.set(|config| config.connection.requires_tls = true)
    }

    purista_core::server_setters! {
        "`tls://`, or with [`require_tls`](Self::require_tls)";
        /// Sets what all subjects and names begin with, to separate systems that share a server; `purista` by default, as
        /// with the TypeScript original. At most 64 bytes.
        prefix;
        /// Sets how often the bridge pings a silent server; 5 s by default. The connection counts as lost after three times
        /// that without an answer.
        keep_alive;
        /// Limits payload and parameter together, in bytes; by default what the server takes, less room for the envelope.
        max_payload;
    }

    purista_core::engine_setters!(engine);

    /// Sets what stands for an absent part in subjects, as `emptyTopicPartString` of the TypeScript original does, where
    /// that is not at its default: `__empty__`, which is converted to `empty`.
    pub fn empty_part(self, marker: impl Into<String>) -> Self {
        self.set(|config| config.empty_part = Some(marker.into()))
    }

    /// Sets what inboxes begin with, for servers that restrict them; `_INBOX` by default.
    pub fn inbox_prefix(self, prefix: impl Into<String>) -> Self {
        self.set(|config| config.inbox_prefix = prefix.into())
    }

    /// Limits how many messages, and how many bytes, wait in this process for one command, or one subscription without
    /// JetStream; 65,536 and 64 MiB by default. What comes beyond that is refused to its caller, or lost and counted.
    pub fn pending_limits(self, messages: usize, bytes: usize) -> Self {
        self.set(|config| (config.pending_messages, config.pending_bytes) = (messages, bytes))
    }

    /// Configures what is kept in JetStream.
    pub fn jetstream(self, jetstream: JetStreamConfig) -> Self {
        self.set(|config| config.jetstream = Some(jetstream))
    }

    /// Uses core NATS only, even if the server has JetStream: what must be kept is refused with `Unsupported`.
    pub fn without_jetstream(self) -> Self {
        self.set(|config| config.jetstream = None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<NatsBridgeBuilder> {
        NatsBridgeBuilder::from_variables(&variables.iter().copied().collect())
    }

    #[test]
    fn the_environment_configures() {
        let builder = from(&[
            ("PURISTA_NATS_URL", "tls://host"),
            ("PURISTA_NATS_USER", "ada"),
            ("PURISTA_NATS_PASSWORD", "hidden"),
            ("PURISTA_NATS_CA", "ca.pem"),
            ("PURISTA_NATS_PREFIX", "acme"),
        ]);
        let config = builder.unwrap().config.unwrap();
        assert!(matches!(&config.credentials, Credentials::Login(login) if login.user == "ada"));
        assert!(config.connection.is_encrypted());
        config.validate().unwrap();
        assert_eq!(config.connection.prefix, "acme");
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn one_way_to_authenticate_is_enough() {
        let url = ("PURISTA_NATS_URL", "host");
        assert!(from(&[url, ("PURISTA_NATS_TOKEN", "hidden")]).is_ok());
        assert!(from(&[url, ("PURISTA_NATS_TOKEN", "hidden"), ("PURISTA_NATS_NKEY", "hidden")]).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let builder = || NatsBridge::builder("host");
        assert!(builder().build().is_ok());
        assert!(builder().root_certificates("ca.pem").require_tls().build().is_ok());
        let provider = || std::future::ready(Ok(purista_core::Credentials::user_and_password("ada", "pw")));
        assert!(builder().credentials_provider(provider).build().is_ok());
        let broken = [
            NatsBridge::builder("nats://ada:pw@host").credentials_provider(provider),
            builder().credentials_provider(provider).user_and_password("ada", "pw"),
            builder().credentials_provider(provider).token("pw"),
            builder().nkey("seed").credentials_provider(provider),
            builder().credentials_provider(provider).credentials_file("ada.creds"),
            NatsBridge::builder("http://host"),
            builder().root_certificates("ca.pem"),
            builder().client_certificate("certificate.pem", "key.pem"),
            builder().token(""),
            builder().prefix(""),
            builder().inbox_prefix("a b"),
            builder().empty_part(""),
            builder().empty_part(">"),
            builder().empty_part("~"),
            builder().connect_timeout(Duration::ZERO),
            builder().pending_limits(0, 1),
            builder().jetstream(JetStreamConfig::default().with_replicas(6)),
            builder().jetstream(JetStreamConfig::default().with_max_bytes(0)),
            builder().max_pending_calls(0),
        ];
        assert!(broken.into_iter().all(|builder| builder.build().is_err()));
    }
}
