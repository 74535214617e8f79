use std::{fmt, path::PathBuf, time::Duration};

use purista_core::{Error, ErrorKind, Result};
use secrecy::SecretString;
use url::Url;

/// All that is configured about the connections and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) servers: Vec<Server>,
    pub(crate) credentials: Option<(String, SecretString)>,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) prefix: String,
    pub(crate) session_expiry: Option<Duration>,
    pub(crate) receive_maximum: u16,
    pub(crate) pending_messages: usize,
    pub(crate) pending_bytes: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) max_reconnect_delay: Duration,
    pub(crate) max_payload: usize,
}

/// How a connection to a server is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
}

/// The address of a server, without who connects.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What a WebSocket is asked for.
    path: String,
}

impl Scheme {
    const ALL: [(&'static str, Self, u16); 4] = [
        ("mqtt", Self::Mqtt, 1_883),
        ("mqtts", Self::Mqtts, 8_883),
        ("ws", Self::Ws, 80),
        ("wss", Self::Wss, 443),
    ];

    pub(crate) const fn is_encrypted(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

impl Server {
    fn new(url: &Url) -> Option<Self> {
        let (_, scheme, port) = Scheme::ALL.into_iter().find(|(name, ..)| *name == url.scheme())?;
        let path = match url.path() {
            "" | "/" => "/mqtt",
            path => path,
        };
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Self { scheme, host: host.to_owned(), port: url.port().unwrap_or(port), path: path.to_owned() })
    }

    /// Returns the URL of a WebSocket.
    pub(crate) fn websocket_url(&self) -> String {
        let Self { scheme, host, port, path } = self;
        format!("{}://{host}:{port}{path}", scheme.name())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.name(), self.host, self.port)
    }
}

impl Config {
    /// Takes the defaults, for a list of URLs. User and password are those of the first one.
    pub(crate) fn new(servers: &str) -> Result<Self> {
        let mut credentials = None;
        let mut addresses = Vec::new();
        for url in servers.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            // The error repeats no URL, as that may hold a password.
            let malformed = || invalid("a server's URL is malformed");
            let url = Url::parse(url).map_err(|_| malformed())?;
            if addresses.is_empty() && !url.username().is_empty() {
                credentials =
                    Some((decoded(url.username()), decoded(url.password().unwrap_or_default()).into()));
            }
            addresses.push(Server::new(&url).ok_or_else(malformed)?);
        }
        if addresses.is_empty() {
            return Err(invalid("there is no server"));
        }
        Ok(Self {
            servers: addresses,
            credentials,
            root_certificates: None,
            client_certificate: None,
            prefix: "purista".to_owned(),
            session_expiry: None,
            receive_maximum: 1_024,
            pending_messages: 65_536,
            pending_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            max_reconnect_delay: Duration::from_secs(2),
            max_payload: 1 << 20,
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let times = [self.connect_timeout, self.keep_alive, self.max_reconnect_delay];
        let limits =
            [self.max_payload, self.pending_messages, self.pending_bytes, self.receive_maximum.into()];
        if times.iter().any(Duration::is_zero) || limits.contains(&0) {
            return Err(invalid("limits and times must be greater than zero"));
        }
        if self.keep_alive.as_secs() == 0 || u16::try_from(self.keep_alive.as_secs()).is_err() {
            return Err(invalid("the keep alive is 1 to 65,535 seconds"));
        }
        let expiry = self.session_expiry.map_or(1, |expiry| expiry.as_secs());
        if expiry == 0 || u32::try_from(expiry).is_err() {
            return Err(invalid("a session expires after 1 to 4,294,967,295 seconds"));
        }
        if self.max_payload > MAX_PACKET - ENVELOPE {
            return Err(invalid("MQTT has no messages of 256 MiB"));
        }
        if self.prefix.is_empty() || self.prefix.len() > 64 || self.prefix.chars().any(char::is_control) {
            return Err(invalid("the prefix has 1 to 64 bytes and no control characters"));
        }
        if self.prefix.starts_with('$') {
            return Err(invalid("topics that begin with a dollar sign are the broker's"));
        }
        let needs_tls = self.root_certificates.is_some() || self.client_certificate.is_some();
        if needs_tls && self.servers.iter().any(|server| !server.scheme.is_encrypted()) {
            return Err(invalid("certificates are for mqtts:// and wss:// only"));
        }
        Ok(())
    }
}

/// The largest packet that MQTT has.
const MAX_PACKET: usize = 268_435_455;

/// What an envelope, or what a dead letter tells beside it, needs beside the payload at the most.
pub(crate) const ENVELOPE: usize = 64 * 1_024;

fn decoded(text: &str) -> String {
    percent_decoded(text).unwrap_or_else(|| text.to_owned())
}

fn percent_decoded(text: &str) -> Option<String> {
    // The pair parser of the URL crate decodes what stands between its separators.
    let escaped = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(escaped.as_bytes());
    let (decoded, _) = pairs.next()?;
    pairs.next().is_none().then(|| decoded.into_owned())
}

pub(crate) fn invalid(context: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, "configure").bridge(crate::transport::NAME).context(context)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_first_url_says_who() {
        let config =
            Config::new("mqtt://ada:p%40s+s@one:5673, mqtts://two, ws://three, wss://four/path").unwrap();
        let servers = "[mqtt://one:5673, mqtts://two:8883, ws://three:80, wss://four:443]";
        assert_eq!(format!("{:?}", config.servers), servers);
        assert_eq!(config.servers[2].websocket_url(), "ws://three:80/mqtt");
        assert_eq!(config.servers[3].websocket_url(), "wss://four:443/path");
        let (user, password) = config.credentials.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("ada", "p@s+s"));
        assert!(!format!("{config:?}").contains("p@s"), "{config:?}");
    }

    #[test]
    fn malformed_urls_are_refused_without_repeating_them() {
        for url in ["", " , ", "http://secret@host", "mqtt://secret@host:port", "secret", "mqtt://"] {
            let error = Config::new(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
