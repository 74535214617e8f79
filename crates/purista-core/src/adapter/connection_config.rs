use std::time::Duration;

use tokio::time::Instant;

use super::{Credentials, CredentialsProvider, ServerList, TlsFiles};
use crate::{
    error::{Error, Result},
    options::MAX_TIMEOUT,
};

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 64;

/// What is configurable about the connection of every adapter that connects to a [`ServerList`], and what all its names at
/// the broker begin with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// Where the servers are.
    pub servers: ServerList,
    /// Whether connections are encrypted although the URLs do not say so.
    pub requires_tls: bool,
    /// By which certificates they are.
    pub tls: TlsFiles,
    /// Who is asked for the credentials of each connection.
    pub credentials_provider: Option<CredentialsProvider>,
    /// What names at the broker begin with; `purista` by default, as with the TypeScript original.
    pub prefix: String,
    /// How long one attempt to connect to a server takes; 5 s by default.
    pub connect_timeout: Duration,
    /// After how long without traffic the peer is asked for a sign of life; 10 s by default.
    pub keep_alive: Duration,
    /// The pause between two attempts to connect again, which starts at 100 ms; 2 s by default.
    pub max_reconnect_delay: Duration,
    /// How large payload and parameter are together, in bytes; unlimited by default.
    pub max_payload: usize,
}

impl ConnectionConfig {
    /// Takes the defaults.
    #[must_use]
    pub fn new(servers: ServerList) -> Self {
        Self {
            servers,
            requires_tls: false,
            tls: TlsFiles::default(),
            credentials_provider: None,
            prefix: "purista".to_owned(),
            connect_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            max_reconnect_delay: Duration::from_secs(2),
            max_payload: usize::MAX,
        }
    }

    /// Returns whether connections that are not encrypted are refused.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.requires_tls || self.servers.is_encrypted()
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for a limit or time of zero, for a prefix that is empty, longer than
    /// 64 bytes or has control characters, and for certificates without TLS: credentials that were meant for an encrypted
    /// connection must not go over another one.
    pub fn validate(&self) -> Result<()> {
        let times = [self.connect_timeout, self.keep_alive, self.max_reconnect_delay];
        if times.iter().any(Duration::is_zero) || self.max_payload == 0 {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        if !(1..=MAX_PREFIX).contains(&self.prefix.len()) || self.prefix.chars().any(char::is_control) {
            return Err(Error::invalid_config("the prefix has 1 to 64 bytes and no control characters"));
        }
        self.servers.check_tls_settings(self.tls.are_given() && !self.requires_tls)
    }

    /// Checks that not both a provider and somebody else say by what the bridge authenticates: what is in the URL, or is
    /// `given` in another way.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if both do.
    pub fn check_provider(&self, given: bool) -> Result<()> {
        if self.credentials_provider.is_some() && (given || self.servers.user_info().is_some()) {
            return Err(Error::invalid_config(
                "credentials come from the provider or are set, in the URL or the builder: not both",
            ));
        }
        Ok(())
    }

    /// Asks the provider, if there is one, for the credentials of a connection that has to be made until then.
    ///
    /// # Errors
    ///
    /// As [`CredentialsProvider::ask`].
    ///
    /// # Cancel safety
    ///
    /// As [`CredentialsProvider::ask`].
    pub async fn provided(&self, until: Instant) -> Result<Option<Credentials>> {
        match &self.credentials_provider {
            Some(provider) => provider.ask(until).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns until when an attempt to connect that begins now has to succeed.
    #[must_use]
    pub fn connects_until(&self) -> Instant {
        Instant::now() + self.connect_timeout.min(MAX_TIMEOUT)
    }

    /// Returns [`keep_alive`](Self::keep_alive) for a broker that counts it in whole seconds: rounded down, so that a loss
    /// is not noticed later than was asked for.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if it is not 1 to 65,535 seconds.
    pub fn keep_alive_seconds(&self) -> Result<u16> {
        let seconds = u16::try_from(self.keep_alive.as_secs()).ok().filter(|seconds| *seconds > 0);
        seconds.ok_or_else(|| Error::invalid_config("the keep alive is 1 to 65,535 seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::UrlScheme;

    const SCHEMES: &[UrlScheme] = &[UrlScheme::plain("test", 1), UrlScheme::encrypted("tests", 2)];

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |url, set: fn(&mut ConnectionConfig)| {
            let mut config = ConnectionConfig::new(ServerList::parse(url, SCHEMES).unwrap());
            set(&mut config);
            config.validate()
        };
        with("test://host", |_| {}).unwrap();
        with("tests://host", |config| config.tls.root_certificates = Some("ca.pem".into())).unwrap();
        let required: fn(&mut ConnectionConfig) = |config| {
            config.requires_tls = true;
            config.tls.root_certificates = Some("ca.pem".into());
        };
        with("test://host", required).unwrap();
        let refused: [fn(&mut ConnectionConfig); 8] = [
            |config| config.tls.root_certificates = Some("ca.pem".into()),
            |config| config.tls.client_certificate = Some(("certificate.pem".into(), "key.pem".into())),
            |config| config.prefix.clear(),
            |config| config.prefix = "x".repeat(65),
            |config| config.prefix.push('\n'),
            |config| config.connect_timeout = Duration::ZERO,
            |config| config.max_reconnect_delay = Duration::ZERO,
            |config| config.max_payload = 0,
        ];
        for set in refused {
            let error = with("test://host", set).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig);
        }
    }

    #[test]
    fn credentials_come_from_one_place() {
        let check = |url, given, has_provider: bool| {
            let mut config = ConnectionConfig::new(ServerList::parse(url, SCHEMES).unwrap());
            config.credentials_provider = has_provider
                .then(|| CredentialsProvider::new(|| std::future::ready(Ok(Credentials::token("s3cret")))));
            assert!(!format!("{config:?}").contains("s3cret"));
            config.check_provider(given).is_ok()
        };
        assert!(check("test://host", false, true));
        assert!(check("test://ada:pw@host", true, false));
        assert!(!check("test://ada:pw@host", false, true));
        assert!(!check("test://host", true, true));
    }

    #[test]
    fn some_brokers_count_in_whole_seconds() {
        let mut config = ConnectionConfig::new(ServerList::parse("test://host", SCHEMES).unwrap());
        for (milliseconds, seconds) in
            [(999, None), (1_000, Some(1)), (1_999, Some(1)), (65_535_999, Some(65_535)), (65_536_000, None)]
        {
            config.keep_alive = Duration::from_millis(milliseconds);
            assert_eq!(config.keep_alive_seconds().ok(), seconds, "{milliseconds}");
        }
    }
}
