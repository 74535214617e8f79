use std::{path::PathBuf, time::Duration};

use async_nats::ServerAddr;
use purista_core::{
    Error, Result,
    adapter::{ConnectionConfig, ServerList, ServerUrl, UrlScheme, UserInfo},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::address::Names;

/// What a bridge keeps in JetStream, and how.
///
/// The limits hold for streams that the bridge creates. A stream that exists keeps its own limits; the start raises a limit
/// that is set here and tighter there, and never tightens one, because others may rely on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JetStreamConfig {
    /// How many bytes wait for subscribers at the most. `emit` waits for room beyond that. `None`: 1 GiB, or less on a
    /// server that has no room for as much.
    pub max_bytes: Option<u64>,
    /// How many messages wait for subscribers at the most; unlimited by default.
    pub max_messages: Option<u64>,
    /// How many messages of one subject, which is an event of one sender, wait at the most; unlimited by default. It keeps
    /// a slow subscriber from holding up the events of others.
    pub max_messages_per_subject: Option<u64>,
    /// How long a message waits for a subscriber at the most; unlimited by default. What is older is lost.
    pub max_age: Option<Duration>,
    /// How many dead letters are kept; 100,000 by default. Beyond that, messages wait unacknowledged for room.
    pub max_dead_letters: Option<u64>,
    /// How many servers of a cluster keep each message, 1 to 5; 1 by default.
    pub replicas: Option<usize>,
    /// Within which time the server recognises a message that is published again; 2 minutes by default.
    pub duplicate_window: Option<Duration>,
    /// How long the server waits for an acknowledgement before it delivers again; 10 s by default. A handler that takes
    /// longer is reported as in progress. The longest one of all instances of a subscriber holds.
    pub ack_wait: Option<Duration>,
}

impl JetStreamConfig {
    /// Limits the bytes that wait for subscribers.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Limits the messages that wait for subscribers.
    #[must_use]
    pub const fn with_max_messages(mut self, messages: u64) -> Self {
        self.max_messages = Some(messages);
        self
    }

    /// Limits the messages of one subject that wait for subscribers.
    #[must_use]
    pub const fn with_max_messages_per_subject(mut self, messages: u64) -> Self {
        self.max_messages_per_subject = Some(messages);
        self
    }

    /// Limits how long a message waits for a subscriber.
    #[must_use]
    pub const fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Limits the dead letters that are kept.
    #[must_use]
    pub const fn with_max_dead_letters(mut self, letters: u64) -> Self {
        self.max_dead_letters = Some(letters);
        self
    }

    /// Sets how many servers of a cluster keep each message.
    #[must_use]
    pub const fn with_replicas(mut self, servers: usize) -> Self {
        self.replicas = Some(servers);
        self
    }

    /// Sets within which time the server recognises a message that is published again.
    #[must_use]
    pub const fn with_duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = Some(window);
        self
    }

    /// Sets how long the server waits for an acknowledgement.
    #[must_use]
    pub const fn with_ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = Some(wait);
        self
    }

    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes.unwrap_or(1 << 30)
    }

    pub(crate) fn max_dead_letters(&self) -> u64 {
        self.max_dead_letters.unwrap_or(100_000)
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas.unwrap_or(1)
    }

    pub(crate) fn duplicate_window(&self) -> Duration {
        self.duplicate_window.unwrap_or(Duration::from_secs(120))
    }

    pub(crate) fn ack_wait(&self) -> Duration {
        self.ack_wait.unwrap_or(Duration::from_secs(10))
    }

    fn validate(&self) -> Result<()> {
        let limits = [
            self.max_bytes(),
            self.max_messages.unwrap_or(1),
            self.max_messages_per_subject.unwrap_or(1),
            self.max_dead_letters(),
        ];
        let times = [self.max_age.unwrap_or(Duration::MAX), self.duplicate_window(), self.ack_wait()];
        // A larger number has no form in the server's configuration.
        if limits.iter().any(|limit| *limit == 0 || i64::try_from(*limit).is_err()) {
            return Err(Error::invalid_config("limits of JetStream must be greater than zero"));
        }
        // The server counts in steps of 100 ms.
        if times.iter().any(|time| *time < Duration::from_millis(100)) {
            return Err(Error::invalid_config("times of JetStream must be at least 100 ms"));
        }
        if !(1..=5).contains(&self.replicas()) {
            return Err(Error::invalid_config("JetStream has 1 to 5 replicas"));
        }
        Ok(())
    }
}

/// All that is configured about the connection and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) connection: ConnectionConfig,
    pub(crate) credentials: Credentials,
    pub(crate) empty_part: Option<String>,
    pub(crate) inbox_prefix: String,
    pub(crate) pending_messages: usize,
    pub(crate) pending_bytes: usize,
    pub(crate) jetstream: Option<JetStreamConfig>,
    /// How long the engine waits for an operation.
    pub(crate) operation_timeout: Duration,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum Credentials {
    #[default]
    None,
    Login(UserInfo),
    Token(SecretString),
    NKey(SecretString),
    File(PathBuf),
}

/// A user without a password is a token.
impl From<UserInfo> for Credentials {
    fn from(login: UserInfo) -> Self {
        match login.password {
            Some(_) => Self::Login(login),
            None => Self::Token(login.user.into()),
        }
    }
}

impl Config {
    /// The schemes of servers. Without `tls://` it is for the server to say whether a connection gets encrypted.
    pub(crate) const SCHEMES: &[UrlScheme] =
        &[UrlScheme::plain("nats", 4_222), UrlScheme::encrypted("tls", 4_222).or("nats+tls")];

    /// What the query of a URL can say beside options.
    pub(crate) const PARAMETERS: &[&str] = &[];

    /// Takes the defaults, for a list of URLs.
    pub(crate) fn new(servers: &str) -> Result<Self> {
        let servers = ServerList::parse_bare(servers, Self::SCHEMES)?;
        for server in &servers {
            server.without_path()?;
            server.without_query()?;
            address(server)?;
        }
        let mut connection = ConnectionConfig::new(servers);
        connection.keep_alive = Duration::from_secs(5);
        Ok(Self {
            credentials: connection.servers.user_info().cloned().map_or(Credentials::None, Credentials::from),
            connection,
            empty_part: None,
            inbox_prefix: "_INBOX".to_owned(),
            pending_messages: 65_536,
            pending_bytes: 64 << 20,
            jetstream: Some(JetStreamConfig::default()),
            operation_timeout: Duration::from_secs(10),
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.connection.validate()?;
        if self.pending_messages == 0 || self.pending_bytes == 0 {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        let is_subject = |text: &str| {
            let token = |token: &str| {
                !token.is_empty()
                    && token.bytes().all(|byte| byte.is_ascii_graphic() && !b"*>".contains(&byte))
            };
            text.len() <= 64 && text.split('.').all(token)
        };
        if !is_subject(&self.inbox_prefix) {
            return Err(Error::invalid_config("the inbox prefix is no subject of up to 64 characters"));
        }
        if matches!(&self.credentials, Credentials::Token(token) if token.expose_secret().is_empty()) {
            return Err(Error::invalid_config("the token is empty"));
        }
        self.connection.check_provider(!matches!(self.credentials, Credentials::None))?;
        Names::new(&self.connection.prefix, self.empty_part.as_deref())?;
        self.jetstream.as_ref().map_or(Ok(()), JetStreamConfig::validate)
    }
}

/// Returns the address of a server, as the client wants it.
pub(crate) fn address(server: &ServerUrl) -> Result<ServerAddr> {
    server
        .to_string()
        .parse()
        .map_err(|_| Error::invalid_config("the client does not know the host of a server's URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let config = Config::new("tls://ada:p%40ss@one:4223, two").unwrap();
        let servers: Vec<_> = config.connection.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["tls://one:4223", "tls://two:4222"]);
        assert!(config.connection.is_encrypted());
        let Credentials::Login(login) = &config.credentials else { panic!("{config:?}") };
        assert_eq!(*login, UserInfo::new("ada", "p@ss"));
        assert!(!format!("{config:?}").contains("p@ss"), "{config:?}");
        let Credentials::Token(token) = Config::new("nats://t%2Fk@one").unwrap().credentials else {
            panic!()
        };
        assert_eq!(token.expose_secret(), "t/k");
    }

    #[test]
    fn parts_without_a_use_are_refused() {
        for url in ["ws://secret@host", "nats://host/secret", "nats://host?token=secret"] {
            let error = Config::new(url).expect_err(url);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert_eq!(
            Config::new("nats://@host").unwrap().validate().unwrap_err().kind(),
            purista_core::ErrorKind::InvalidConfig
        );
    }

    #[test]
    fn the_client_gets_host_and_port_as_they_are_written() {
        for (url, host, port) in [
            ("nats://localhost", "localhost", 4_222),
            ("tls://127.0.0.1:1", "127.0.0.1", 1),
            ("nats://[2001:DB8::1]:65535", "2001:db8::1", 65_535),
            ("HOST_a.example.", "HOST_a.example.", 4_222),
        ] {
            let config = Config::new(url).unwrap();
            let address = address(config.connection.servers.iter().next().unwrap()).unwrap();
            assert_eq!((address.host(), address.port()), (host, port), "{url}");
            assert!(!address.has_user_pass());
        }
    }

    #[test]
    fn prefixes_are_checked() {
        let with = |inbox_prefix: &str| {
            let config = Config::new("host").unwrap();
            Config { inbox_prefix: inbox_prefix.to_owned(), ..config }.validate().is_ok()
        };
        assert!(with("_INBOX_service.a"));
        assert!(!["", ".", "a..b", "a.*", ">", "a b", "a\r\nb"].into_iter().any(with));
    }
}
