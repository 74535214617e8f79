use std::time::Duration;

use purista_core::{
    Error, Result,
    adapter::{ConnectionConfig, Parameters, ServerList, ServerUrl, UrlScheme, UrlValue, UserInfo},
};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::address::MAX_SHORT_STRING;

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

impl UrlValue for QueueType {
    const EXPECTED: &'static str = "quorum or classic";

    fn read(text: &str) -> Option<Self> {
        match text {
            "quorum" => Some(Self::Quorum),
            "classic" => Some(Self::Classic),
            _ => None,
        }
    }
}

/// All that is configured about the connection and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) connection: ConnectionConfig,
    pub(crate) vhost: String,
    pub(crate) credentials: Credentials,
    pub(crate) is_typescript: bool,
    pub(crate) exchange_name: Option<String>,
    pub(crate) queue_type: QueueType,
    pub(crate) max_queue_length: Option<u32>,
    pub(crate) max_dead_letters: u32,
    pub(crate) check_interval: Duration,
    pub(crate) max_unconfirmed_bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// Nobody said who: the user that a new RabbitMQ has.
    Guest,
    /// A user; without a password if a URL says none, for somebody else to complete.
    Login(UserInfo),
    /// The certificate that is shown says who it is.
    External,
}

/// The user that a new RabbitMQ has, which is also its password. It may connect from the host of the broker.
pub(crate) const GUEST: &str = "guest";

impl Config {
    pub(crate) const SCHEMES: &[UrlScheme] =
        &[UrlScheme::plain("amqp", 5_672), UrlScheme::encrypted("amqps", 5_671)];

    /// What the query of a URL can say, as with RabbitMQ's own clients.
    pub(crate) const PARAMETERS: &[&str] = &["heartbeat", "connection_timeout", "auth_mechanism"];

    /// Takes the defaults, for a list of URLs.
    pub(crate) fn new(servers: &str) -> Result<Self> {
        let servers = ServerList::parse(servers, Self::SCHEMES)?;
        let vhost = servers.common("the virtual host", ServerUrl::path_segment)?;
        let query = |server: &ServerUrl| Ok(server.query().map(str::to_owned));
        servers.common("the query", query)?;
        let parameters =
            servers.iter().next().map(|server| server.parameters(Self::PARAMETERS)).transpose()?;
        let parameters = parameters.unwrap_or_default();
        let seconds = parameters.number("heartbeat")?.unwrap_or(10);
        let milliseconds = parameters.number("connection_timeout")?.unwrap_or(5_000);
        let mut connection = ConnectionConfig::new(servers);
        connection.connect_timeout = Duration::from_millis(milliseconds);
        connection.keep_alive = Duration::from_secs(seconds);
        connection.max_payload = MAX_MESSAGE - ENVELOPE;
        Ok(Self {
            credentials: Credentials::of(&connection.servers, &parameters)?,
            connection,
            vhost: vhost.unwrap_or_else(|| "/".to_owned()),
            is_typescript: false,
            exchange_name: None,
            queue_type: QueueType::default(),
            max_queue_length: None,
            max_dead_letters: 100_000,
            check_interval: Duration::from_secs(2),
            max_unconfirmed_bytes: 64 << 20,
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.connection.validate()?;
        self.connection.keep_alive_seconds()?;
        let lengths = [self.max_queue_length.unwrap_or(1), self.max_dead_letters];
        if self.check_interval.is_zero() || self.max_unconfirmed_bytes == 0 || lengths.contains(&0) {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        if let Some(name) = &self.exchange_name {
            if !self.is_typescript {
                return Err(Error::invalid_config(
                    "the exchange has a name of its own in the topology of the original only",
                ));
            }
            let is_reserved = name.starts_with("amq.");
            if name.is_empty()
                || name.len() > MAX_EXCHANGE
                || name.chars().any(char::is_control)
                || is_reserved
            {
                return Err(Error::invalid_config(
                    "an exchange's name has 1 to 200 bytes, no control characters, and no `amq.` first",
                ));
            }
        }
        if self.vhost.is_empty() || self.vhost.len() > MAX_SHORT_STRING {
            return Err(Error::invalid_config(
                "a virtual host has 1 to 255 bytes; `/` is %2F in a URL, or no path at all",
            ));
        }
        self.connection.check_provider(!matches!(self.credentials, Credentials::Guest))?;
        self.credentials.validate(self.connection.tls.client_certificate.is_some())
    }

    /// Returns the credentials of a connection that has to be made until then.
    pub(crate) async fn credentials(&self, until: Instant) -> Result<Credentials> {
        let Some(provided) = self.connection.provided(until).await? else {
            return Ok(self.credentials.clone());
        };
        let login = Credentials::Login(provided.into_login()?);
        login.validate(false)?;
        Ok(login)
    }
}

impl From<UserInfo> for Credentials {
    fn from(login: UserInfo) -> Self {
        Self::Login(login)
    }
}

impl Credentials {
    fn of(servers: &ServerList, parameters: &Parameters) -> Result<Self> {
        let mechanism = parameters.get("auth_mechanism").map(str::to_ascii_lowercase);
        match (mechanism.as_deref(), servers.user_info()) {
            (Some("external"), None) => Ok(Self::External),
            (Some("external"), Some(_)) => {
                Err(Error::invalid_config("with auth_mechanism=external, the certificate names the user"))
            }
            (None | Some("plain"), None) => Ok(Self::Guest),
            (None | Some("plain"), Some(who)) => Ok(Self::Login(who.clone())),
            (Some(_), _) => Err(Error::invalid_config("the auth_mechanism in a URL is plain or external")),
        }
    }

    fn validate(&self, has_certificate: bool) -> Result<()> {
        match self {
            Self::Login(UserInfo { user, password: Some(password), .. })
                if [user, password.expose_secret()].iter().any(|text| text.contains('\0')) =>
            {
                Err(Error::invalid_config("user and password have no NUL characters"))
            }
            Self::Login(UserInfo { password: None, .. }) => Err(Error::invalid_config(
                "a URL has a user without password; an empty one is written `user:@`",
            )),
            Self::External if !has_certificate => {
                Err(Error::invalid_config("external credentials need a client certificate"))
            }
            Self::Guest | Self::Login(_) | Self::External => Ok(()),
        }
    }
}

/// The longest name of the exchange: others are made of it.
const MAX_EXCHANGE: usize = 200;

/// The largest message that RabbitMQ 4 takes by default.
const MAX_MESSAGE: usize = 16 << 20;

/// What an envelope needs beside the payload at the most.
const ENVELOPE: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &str) -> Config {
        let config = Config::new(servers).unwrap();
        config.validate().unwrap();
        config
    }

    fn login(servers: &str) -> (String, String) {
        match config(servers).credentials {
            Credentials::Guest => (GUEST.to_owned(), GUEST.to_owned()),
            Credentials::Login(UserInfo { user, password: Some(password), .. }) => {
                (user, password.expose_secret().to_owned())
            }
            other => panic!("{servers}: {other:?}"),
        }
    }

    #[test]
    fn the_first_url_says_who_and_where() {
        let config =
            config("amqps://ada:p%40ss@one:5673/%2fsales, amqps://two,amqps://ada:p%40ss@[::1]/%2Fsales");
        let servers: Vec<_> = config.connection.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["amqps://one:5673", "amqps://two:5671", "amqps://[::1]:5671"]);
        assert_eq!(config.vhost, "/sales");
        assert!(!format!("{config:?}").contains("p@ss"), "{config:?}");
    }

    #[test]
    fn user_and_password_are_as_they_are_written() {
        let table = [
            ("amqp://ada:p%40ss@host", ("ada", "p@ss")),
            ("amqp://ada:@host", ("ada", "")),
            ("amqp://:p+w@host", ("", "p+w")),
            ("amqp://:@host", ("", "")),
            ("amqp://host?auth_mechanism=PLAIN", (GUEST, GUEST)),
            ("amqp://host", (GUEST, GUEST)),
        ];
        for (url, (user, password)) in table {
            assert_eq!(login(url), (user.to_owned(), password.to_owned()), "{url}");
        }
        // Somebody else has to say the password.
        assert!(Config::new("amqp://ada@host").unwrap().validate().is_err());
    }

    #[test]
    fn the_path_is_the_virtual_host() {
        let table =
            [("", "/"), ("/%2F", "/"), ("/a%20b%2fc", "a b/c"), ("/a,b", "a,b"), ("/%C3%BC", "\u{fc}")];
        for (path, vhost) in table {
            assert_eq!(config(&format!("amqp://host{path}")).vhost, vhost, "{path}");
        }
        let long = format!("/{}", "a".repeat(256));
        for path in ["/", "//", "/a/b", "/a/", "/%FF", &long] {
            let config = Config::new(&format!("amqp://host{path}"));
            let error = config.and_then(|config| config.validate()).expect_err(path);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{path}");
        }
    }

    #[test]
    fn parameters_are_met_or_refused() {
        let set = config("amqp://one?heartbeat=30&connection_timeout=1500,amqp://two");
        assert_eq!(
            (set.connection.keep_alive, set.connection.connect_timeout),
            (Duration::from_secs(30), Duration::from_millis(1_500))
        );
        assert!(matches!(
            Config::new("amqps://h?auth_mechanism=External").unwrap().credentials,
            Credentials::External
        ));
        let broken = [
            "heartbeat=0",
            "heartbeat=x",
            "heartbeat=-1",
            "heartbeat=%2B1",
            "heartbeat=70000",
            "heartbeat",
            "heartbeat=",
            "connection_timeout=0",
            "channel_max=5",
            "frame_max=4096",
            "auth_mechanism=amqplain",
            "x=y",
            "HEARTBEAT=1",
            "heartbeat=1&heartbeat=1",
            "auth_mechanism=external",
            "cacertfile=ca.pem",
            "verify=verify_none",
        ];
        for query in broken {
            let config = Config::new(&format!("amqp://host?{query}"));
            let error = config.and_then(|config| config.validate()).expect_err(query);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{query}");
        }
        assert!(Config::new("amqps://ada:pw@host?auth_mechanism=external").is_err());
    }

    #[test]
    fn servers_that_contradict_each_other_are_refused() {
        let lists = [
            "amqp://one/a,amqp://two/b",
            "amqp://one,amqp://two/b",
            "amqp://one,amqp://two?heartbeat=5",
            "amqp://one,amqp://ada:secret@two",
            "amqp://ada:pw@one,amqp://ada:secret@two",
            "amqp://one,amqps://two",
        ];
        for servers in lists {
            let error = Config::new(servers).expect_err(servers);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{servers}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
