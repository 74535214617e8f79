use std::time::Duration;

use purista_core::{
    Error, Result,
    adapter::{ConnectionConfig, ServerList, ServerUrl, UrlScheme, UserInfo, whole_seconds},
};
use rumqttc::Broker;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::{
    address::{Names, Shares},
    web_socket,
};

/// All that is configured about the connections and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) connection: ConnectionConfig,
    /// Who connects. MQTT has user names without a password, too.
    pub(crate) credentials: Option<UserInfo>,
    pub(crate) shares: Shares,
    pub(crate) session_expiry: Option<Duration>,
    pub(crate) receive_maximum: u16,
    pub(crate) pending_messages: usize,
    pub(crate) pending_bytes: usize,
}

/// The longest text, and the longest password, that MQTT has.
const MAX_TEXT: usize = 65_535;

/// Returns whether a connection is made over a WebSocket.
pub(crate) fn is_websocket(server: &ServerUrl) -> bool {
    matches!(server.scheme().name(), "ws" | "wss")
}

impl Config {
    pub(crate) const SCHEMES: &[UrlScheme] = &[
        UrlScheme::plain("mqtt", 1_883),
        UrlScheme::encrypted("mqtts", 8_883),
        UrlScheme::plain("ws", 80).or("mqtt+ws").with_own_query(),
        UrlScheme::encrypted("wss", 443).or("mqtt+wss").with_own_query(),
    ];

    /// What the query of a URL can say beside options.
    pub(crate) const PARAMETERS: &[&str] = &[];

    /// Takes the defaults, for a list of URLs.
    pub(crate) fn new(servers: &str) -> Result<Self> {
        let servers = ServerList::parse(servers, Self::SCHEMES)?;
        for server in &servers {
            if is_websocket(server) {
                let broker = Broker::websocket(web_socket::url_for_client(server));
                broker.map_err(|_| {
                    Error::invalid_config("the client does not know the host of a server's URL")
                })?;
            } else {
                server.without_path()?;
                server.without_query()?;
            }
        }
        let mut connection = ConnectionConfig::new(servers);
        connection.max_payload = 1 << 20;
        Ok(Self {
            credentials: connection.servers.user_info().cloned(),
            connection,
            shares: Shares::default(),
            session_expiry: None,
            receive_maximum: 1_024,
            pending_messages: 65_536,
            pending_bytes: 64 << 20,
        })
    }

    pub(crate) fn validate(&self) -> Result<()> {
        self.connection.validate()?;
        self.connection.keep_alive_seconds()?;
        let limits = [self.pending_messages, self.pending_bytes, self.receive_maximum.into()];
        if limits.contains(&0) {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        let expiry = self.session_expiry.unwrap_or(Duration::from_secs(1));
        if expiry < Duration::from_secs(1) || u32::try_from(whole_seconds(expiry)).is_err() {
            return Err(Error::invalid_config("a session expires after 1 to 4,294,967,295 seconds"));
        }
        if self.connection.max_payload > MAX_PACKET - ENVELOPE {
            return Err(Error::invalid_config("MQTT has no messages of 256 MiB"));
        }
        if self.connection.prefix.starts_with('$') {
            return Err(Error::invalid_config("topics that begin with a dollar sign are the broker's"));
        }
        if !self.shares.are_levels() {
            return Err(Error::invalid_config(
                "the prefix and the name of shares are levels of 1 to 64 bytes each",
            ));
        }
        Names::new(&self.connection.prefix, &self.shares)?;
        self.connection.check_provider(self.credentials.is_some())?;
        self.credentials.as_ref().map_or(Ok(()), check_login)
    }
}

impl Config {
    /// Returns who makes a connection that has to be made until then.
    pub(crate) async fn login(&self, until: Instant) -> Result<Option<UserInfo>> {
        let Some(provided) = self.connection.provided(until).await? else {
            return Ok(self.credentials.clone());
        };
        let login = provided.into_login()?;
        check_login(&login)?;
        Ok(Some(login))
    }
}

fn check_login(login: &UserInfo) -> Result<()> {
    let password = login.password.as_ref().map_or("", SecretString::expose_secret);
    if login.user.contains('\0') {
        return Err(Error::invalid_config("a user has no NUL characters"));
    }
    if login.user.len() > MAX_TEXT || password.len() > MAX_TEXT {
        return Err(Error::invalid_config("user and password have up to 65,535 bytes each"));
    }
    Ok(())
}

/// The largest packet that MQTT has.
const MAX_PACKET: usize = 268_435_455;

/// What an envelope, or what a dead letter tells beside it, needs beside the payload at the most.
pub(crate) const ENVELOPE: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &str) -> Config {
        Config::new(servers).and_then(|config| config.validate().map(|()| config)).unwrap()
    }

    #[test]
    fn the_first_url_says_who() {
        let config = config("mqtt://ada:p%40s+s@one:5673, mqtt://two, ws://[::1]");
        let servers: Vec<_> = config.connection.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["mqtt://one:5673", "mqtt://two:1883", "ws://[::1]:80"]);
        assert!(!format!("{config:?}").contains("p@s"), "{config:?}");
    }

    #[test]
    fn user_and_password_are_as_they_are_written() {
        let table = [
            ("ada:p%40s+s@", Some(("ada", Some("p@s+s")))),
            ("ada@", Some(("ada", None))),
            ("ada:@", Some(("ada", Some("")))),
            (":pw@", Some(("", Some("pw")))),
            ("@", Some(("", None))),
            ("a&b=c:secret&%26@", Some(("a&b=c", Some("secret&&")))),
            ("", None),
        ];
        for (who, shown) in table {
            let login = config(&format!("mqtt://{who}host")).credentials;
            let login = login
                .as_ref()
                .map(|login| (login.user.as_str(), login.password.as_ref().map(SecretString::expose_secret)));
            assert_eq!(login, shown, "{who}");
        }
        assert!(Config::new("mqtt://a%00b@host").unwrap().validate().is_err());
    }

    #[test]
    fn a_websocket_is_asked_for_what_is_written() {
        let url = |url: &str| {
            let config = config(url);
            let server = config.connection.servers.iter().next().unwrap();
            let client = web_socket::url_for_client(server);
            let authority = client.strip_prefix("ws://").and_then(|rest| rest.strip_suffix("/-")).unwrap();
            format!("{}://{authority}{}", server.scheme().name(), web_socket::target(server))
        };
        for same in [
            "ws://host/",
            "wss://host:443/a//b/%2F?token=a%2Bb+c,d&x=/?@:",
            "ws://127.0.0.1:80/mqtt?",
            "wss://[2001:db8::1]/p;v=1",
            "ws://localhost:8080/a?X-Amz-Date=20261130T000000Z&X-Amz-Signature=0a",
        ] {
            let same = same.replace('@', "%40");
            assert_eq!(url(&same), same);
        }
        assert_eq!(url("WS://ada:pw@host"), "ws://host/mqtt");
        assert_eq!(url("ws://host?token=x"), "ws://host/mqtt?token=x");
        let config = config("wss://host/mqtt?token=secret,wss://other/secret?x=secret");
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    }

    #[test]
    fn parts_without_a_use_are_refused() {
        for url in
            ["http://secret@host", "mqtt://host/secret", "mqtts://host?token=secret", "mqtt://h,mqtts://h"]
        {
            let error = Config::new(url).expect_err(url);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
