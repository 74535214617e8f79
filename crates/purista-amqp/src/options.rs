//! What the client is told about a connection.

use std::path::Path;

use lapin::{
    ConnectionProperties,
    auth::AuthProvider,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    types::{LongString, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use purista_core::{
    ErrorKind, Id, Result,
    adapter::{ServerUrl, whole_milliseconds},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::{Config, Credentials, GUEST},
    error::error,
};

/// Returns where a server is. The credentials are not in there, as the client logs it.
pub(crate) fn uri(config: &Config, server: &ServerUrl) -> AMQPUri {
    AMQPUri {
        scheme: if server.scheme().is_encrypted() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: String::new(), password: String::new() },
            host: server.host().to_owned(),
            port: server.port(),
        },
        vhost: config.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: config.connection.keep_alive_seconds().ok(),
            connection_timeout: Some(whole_milliseconds(config.connection.connect_timeout)),
            ..AMQPQueryString::default()
        },
    }
}

/// Makes the client's properties of our configuration.
pub(crate) fn properties(credentials: Credentials, instance_id: &Id, role: &str) -> ConnectionProperties {
    let name = format!("{} {role}", instance_id.to_string().escape_debug());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    match credentials {
        Credentials::Guest => properties.with_auth_provider(Plain(GUEST.to_owned(), GUEST.into())),
        // Nobody gets here without a password, and nothing is shown in its place.
        Credentials::Login(login) => {
            properties.with_auth_provider(Plain(login.user, login.password.unwrap_or_default()))
        }
        Credentials::External => properties.with_auth_provider(External),
    }
}

/// Reads the certificates.
pub(crate) async fn tls(config: &Config) -> Result<OwnedTLSConfig> {
    let cert_chain = match &config.connection.tls.root_certificates {
        Some(path) => Some(String::from_utf8_lossy(&read(path).await?).into_owned()),
        None => None,
    };
    let identity = match &config.connection.tls.client_certificate {
        Some((certificate, key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read(certificate).await?, key: read(key).await? })
        }
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

async fn read(path: &Path) -> Result<Vec<u8>> {
    let owned = path.to_owned();
    let content = tokio::task::spawn_blocking(move || std::fs::read(owned)).await;
    content.map_err(std::io::Error::other).flatten().map_err(|cause| {
        error(ErrorKind::InvalidConfig, "start")
            .with_context(format!("{}", path.display()))
            .with_source(cause)
    })
}

/// User and password, apart from the address.
struct Plain(String, SecretString);

impl AuthProvider for Plain {
    fn mechanism(&self) -> ShortString {
        "PLAIN".into()
    }

    fn auth_starter(&self) -> Result<LongString, String> {
        let Self(user, password) = self;
        Ok(format!("\0{user}\0{}", password.expose_secret()).into())
    }
}

/// The certificate that is shown.
struct External;

impl AuthProvider for External {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_are_rounded_up_and_signs_of_life_come_no_later() {
        let told = |keep_alive, connect_timeout| {
            let mut config = Config::new("amqp://host").unwrap();
            (config.connection.keep_alive, config.connection.connect_timeout) = (keep_alive, connect_timeout);
            let server = config.connection.servers.iter().next().unwrap();
            let query = uri(&config, server).query;
            (query.heartbeat, query.connection_timeout)
        };
        let ms = Duration::from_millis;
        assert_eq!(told(ms(1_000), ms(5_000)), (Some(1), Some(5_000)));
        assert_eq!(told(ms(1_999), Duration::from_micros(1)), (Some(1), Some(1)));
        assert_eq!(told(ms(65_534_999), Duration::from_micros(1_500)), (Some(65_534), Some(2)));
    }
}
