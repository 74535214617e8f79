use std::time::Duration;

use purista_core::{
    Result,
    adapter::{EngineConfig, Variables},
};

use crate::{
    AmqpBridge, QueueType,
    config::{Config, Credentials},
    transport::AmqpTransport,
};

/// Configures an [`AmqpBridge`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct AmqpBridgeBuilder {
    config: Result<Config>,
    engine: EngineConfig,
}

impl AmqpBridgeBuilder {
    purista_core::builder_start! {
        Config, AmqpTransport => AmqpBridge;
        /// | `PURISTA_AMQP_URL` | the servers, needed |
        "PURISTA_AMQP_USER" and "PURISTA_AMQP_PASSWORD" => user_and_password;
        "PURISTA_AMQP_VHOST" => vhost;
        "PURISTA_AMQP_CA" => root_certificates;
        "PURISTA_AMQP_CERTIFICATE" and "PURISTA_AMQP_KEY" => client_certificate;
        "PURISTA_AMQP_PREFIX" => prefix;
        "PURISTA_INSTANCE_ID" => instance_id;
    }

    purista_core::url_options! {
        Config, "PURISTA_AMQP_URL";
        tables [SERVER_OPTIONS, ENGINE_OPTIONS];
        at_most_one ["keep_alive", "?heartbeat"];
        at_most_one ["connect_timeout", "?connection_timeout"];
        options {
            typescript_topology: flag;
            exchange_name: text;
            queue_type;
            max_queue_length;
            max_dead_letters;
            check_interval;
            max_unconfirmed_bytes;
        }
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self> {
        Self::new(variables.required("PURISTA_AMQP_URL")?).with_all_variables(variables)
    }

    fn with_all_variables(self, variables: &Variables) -> Result<Self> {
        self.with_variables(variables)
    }

    /// Authenticates as the subject of the [`client_certificate`](Self::client_certificate) (SASL `EXTERNAL`).
    pub fn external_credentials(self) -> Self {
        self.set(|config| config.credentials = Credentials::External)
    }

    /// Sets the virtual host, instead of the one in the URL; `/` by default.
    pub fn vhost(self, vhost: impl Into<String>) -> Self {
        self.set(|config| config.vhost = vhost.into())
    }

    purista_core::server_setters! {
        "`amqps://`";
        /// Sets what all exchanges and queues begin with, to separate systems that share a virtual host; `purista` by
        /// default, as with the TypeScript original. At most 64 bytes.
        prefix;
        /// Sets within which time client and broker show a sign of life, the `heartbeat` of AMQP, in seconds, rounded down;
        /// 10 s by default. After twice that without one the connection counts as lost.
        keep_alive;
        /// Limits payload and parameter together, in bytes; by default the 16 MiB that RabbitMQ 4 takes, less room for the
        /// envelope. If the broker's `max_message_size` is lower, the bridge learns it from the first message that it refuses.
        max_payload;
    }

    purista_core::engine_setters!(engine);

    /// Uses the exchange and the queues of the TypeScript original, to share commands and subscriptions with it. RabbitMQ
    /// compares each message with every binding of that exchange, so each further binding makes it slower.
    pub fn typescript_topology(self) -> Self {
        self.set(|config| config.is_typescript = true)
    }

    /// Sets the name of the exchange, the `exchangeName` of the TypeScript original; by default it is the
    /// [`prefix`](Self::prefix). The names of queues begin with the prefix all the same, which is the original's
    /// `namePrefix`. Needs [`typescript_topology`](Self::typescript_topology).
    pub fn exchange_name(self, name: impl Into<String>) -> Self {
        self.set(|config| config.exchange_name = Some(name.into()))
    }

    /// Sets the type of the queues that hold dead letters and the messages of subscribers; quorum queues by default. The
    /// TypeScript original uses classic queues.
    pub fn queue_type(self, queue_type: QueueType) -> Self {
        self.set(|config| config.queue_type = queue_type)
    }

    /// Limits how many messages wait in the queue of a subscriber; unlimited by default. Beyond that, `emit` waits for
    /// room; other subscribers may get its message more than once then. A quorum queue keeps the limit roughly.
    pub fn max_queue_length(self, messages: u32) -> Self {
        self.set(|config| config.max_queue_length = Some(messages))
    }

    /// Limits how many dead letters are kept; 100,000 by default. Beyond that, messages wait unacknowledged for room.
    pub fn max_dead_letters(self, letters: u32) -> Self {
        self.set(|config| config.max_dead_letters = letters)
    }

    /// Sets how often the bridge checks its exchanges, bindings and consumers, because RabbitMQ does not tell clients when
    /// somebody deletes them; 2 s by default. The bridge restores what is missing. It checks at most 25 registrations per
    /// second.
    pub fn check_interval(self, interval: Duration) -> Self {
        self.set(|config| config.check_interval = interval)
    }

    /// Limits how many bytes are on their way to the broker without its confirm; 64 MiB by default. What is sent beyond
    /// that waits.
    pub fn max_unconfirmed_bytes(self, bytes: usize) -> Self {
        self.set(|config| config.max_unconfirmed_bytes = bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<AmqpBridgeBuilder> {
        AmqpBridgeBuilder::from_variables(&variables.iter().copied().collect())
    }

    #[test]
    fn the_environment_configures() {
        let builder = from(&[
            ("PURISTA_AMQP_URL", "amqps://host"),
            ("PURISTA_AMQP_USER", "ada"),
            ("PURISTA_AMQP_PASSWORD", "hidden"),
            ("PURISTA_AMQP_VHOST", "sales"),
            ("PURISTA_AMQP_PREFIX", "acme"),
        ]);
        let config = builder.unwrap().config.unwrap();
        assert!(matches!(&config.credentials, Credentials::Login(login) if login.user == "ada"));
        assert_eq!((config.connection.prefix.as_str(), config.vhost.as_str()), ("acme", "sales"));
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let builder = || AmqpBridge::builder("amqp://host");
        assert!(builder().build().is_ok());
        assert!(AmqpBridge::builder("amqp://ada@host").user_and_password("ada", "pw").build().is_ok());
        let with_tls =
            || AmqpBridge::builder("amqps://host").client_certificate("certificate.pem", "key.pem");
        assert!(with_tls().root_certificates("ca.pem").external_credentials().build().is_ok());
        let provider = || std::future::ready(Ok(purista_core::Credentials::user_and_password("ada", "pw")));
        assert!(builder().credentials_provider(provider).build().is_ok());
        let broken = [
            AmqpBridge::builder("amqp://ada:pw@host").credentials_provider(provider),
            builder().credentials_provider(provider).user_and_password("ada", "pw"),
            with_tls().credentials_provider(provider).external_credentials(),
            AmqpBridge::builder("amqps://host?auth_mechanism=external")
                .client_certificate("certificate.pem", "key.pem")
                .credentials_provider(provider),
            AmqpBridge::builder("http://host"),
            builder().prefix(""),
            builder().connect_timeout(Duration::ZERO),
            builder().keep_alive(Duration::from_millis(999)),
            builder().keep_alive(Duration::from_secs(65_536)),
            builder().max_queue_length(0),
            builder().exchange_name("acme"),
            builder().typescript_topology().exchange_name(""),
            builder().typescript_topology().exchange_name("amq.headers"),
            builder().client_certificate("certificate.pem", "key.pem"),
            builder().root_certificates("ca.pem"),
            builder().external_credentials(),
            AmqpBridge::builder("amqps://host").external_credentials(),
            AmqpBridge::builder("amqp://ada@host"),
            builder().user_and_password("a\0b", ""),
            builder().vhost(""),
            builder().max_identity_len(256),
            builder().max_pending_calls(0),
        ];
        assert!(broken.into_iter().all(|builder| builder.build().is_err()));
    }
}
