use std::{fmt, path::PathBuf, time::Duration};

use lapin::uri::{AMQPScheme, AMQPUri};
use purista_core::{Error, ErrorKind, Result};
use secrecy::SecretString;

/// How the queue of a durable subscriber is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueType {
    /// On disk, replicated if there are several nodes; counts deliveries.
    #[default]
    Quorum,
    /// On the disk of one node. It does not count deliveries: a message that kills its process comes again and again.
    Classic,
}

/// All that is configured about the connection and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) servers: Vec<Server>,
    pub(crate) vhost: String,
    pub(crate) credentials: Credentials,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) prefix: String,
    pub(crate) is_typescript: bool,
    pub(crate) queue_type: QueueType,
    pub(crate) max_queue_length: Option<u32>,
    pub(crate) max_dead_letters: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) max_reconnect_delay: Duration,
    pub(crate) check_interval: Duration,
    pub(crate) max_payload: usize,
    pub(crate) max_unconfirmed_bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    UserAndPassword(String, SecretString),
    /// The certificate that is shown says who it is.
    External,
}

/// The address of a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls } = self;
        write!(f, "{}://{host}:{port}", if *tls { "amqps" } else { "amqp" })
    }
}

impl Config {
    /// Takes the defaults, for a list of URLs. User, password and vhost are those of the first one.
    pub(crate) fn new(servers: &str) -> Result<Self> {
        let mut first = None;
        let mut addresses = Vec::new();
        for url in servers.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            // The error repeats no URL, as that may hold a password.
            let uri: AMQPUri = url.parse().map_err(|_| invalid("a server's URL is malformed"))?;
            let tls = uri.scheme == AMQPScheme::AMQPS;
            addresses.push(Server { host: uri.authority.host.clone(), port: uri.authority.port, tls });
            first.get_or_insert(uri);
        }
        let Some(first) = first else { return Err(invalid("there is no server")) };
        let user = first.authority.userinfo;
        Ok(Self {
            servers: addresses,
            vhost: first.vhost,
            credentials: Credentials::UserAndPassword(user.username, user.password.into()),
            root_certificates: None,
            client_certificate: None,
            prefix: "purista".to_owned(),
            is_typescript: false,
            queue_type: QueueType::default(),
            max_queue_length: None,
            max_dead_letters: 100_000,
            connect_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            max_reconnect_delay: Duration::from_secs(2),
            check_interval: Duration::from_secs(2),
            max_payload: MAX_MESSAGE - ENVELOPE,
            max_unconfirmed_bytes: 64 << 20,
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let times = [self.connect_timeout, self.heartbeat, self.max_reconnect_delay, self.check_interval];
        let limits = [self.max_payload, self.max_unconfirmed_bytes];
        let lengths = [self.max_queue_length.unwrap_or(1), self.max_dead_letters];
        if times.iter().any(Duration::is_zero) || limits.contains(&0) || lengths.contains(&0) {
            return Err(invalid("limits and times must be greater than zero"));
        }
        if self.heartbeat.as_secs() == 0 || u16::try_from(self.heartbeat.as_secs()).is_err() {
            return Err(invalid("the heartbeat is 1 to 65,535 whole seconds"));
        }
        if self.prefix.is_empty() || self.prefix.len() > 64 || self.prefix.chars().any(char::is_control) {
            return Err(invalid("the prefix has 1 to 64 bytes and no control characters"));
        }
        if self.client_certificate.is_some() && self.servers.iter().any(|server| !server.tls) {
            return Err(invalid("a certificate is shown over amqps:// only"));
        }
        Ok(())
    }
}

/// The largest message that RabbitMQ 4 takes by default.
const MAX_MESSAGE: usize = 16 << 20;

/// What an envelope needs beside the payload at the most.
const ENVELOPE: usize = 64 * 1_024;

pub(crate) fn invalid(context: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, "configure").bridge(crate::transport::NAME).context(context)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_first_url_says_who_and_where() {
        let config = Config::new("amqp://ada:p%40ss@one:5673/%2fsales, amqps://two").unwrap();
        assert_eq!(format!("{:?}", config.servers), "[amqp://one:5673, amqps://two:5671]");
        assert_eq!(config.vhost, "/sales");
        let Credentials::UserAndPassword(user, password) = &config.credentials else { panic!("{config:?}") };
        assert_eq!((user.as_str(), password.expose_secret()), ("ada", "p@ss"));
        assert!(!format!("{config:?}").contains("p@ss"), "{config:?}");
        assert_eq!(Config::new("amqp://localhost").unwrap().vhost, "/");
    }

    #[test]
    fn malformed_urls_are_refused_without_repeating_them() {
        for url in ["", " , ", "http://secret@host", "amqp://secret@host:port", "secret"] {
            let error = Config::new(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
