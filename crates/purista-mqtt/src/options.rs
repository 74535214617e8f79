//! What the client is told about a connection.

use std::{io, path::Path, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use purista_core::{
    Error, ErrorKind, Result,
    adapter::{ServerUrl, UserInfo, whole_seconds},
};
use rumqttc::{
    AckMode, Broker, ConnectProperties, IncomingPacketSizeLimit, MqttOptions, NetworkOptions,
    PersistedAckMode, PersistedSession, SessionStore, SessionStoreError, SessionStoreKey, Transport,
    tokio_rustls::{
        TlsConnector,
        rustls::{
            self, ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        },
    },
};
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;

use crate::{
    config::{Config, ENVELOPE, is_websocket},
    error::error,
    packet_size::RefusedSizes,
    puback::{KnownReasons, OddReasons},
    socket::{self, BoxStream},
    tapped::Tapped,
    web_socket::{self, Requesting},
};

/// What one connection is for.
#[derive(Clone, Debug)]
pub(crate) struct SessionSpec {
    pub(crate) client_id: String,
    /// How long the broker keeps the session when the connection is lost. Without it, the session starts clean.
    pub(crate) expiry: Option<Duration>,
    /// How many messages the broker sends without acknowledgement at the most.
    pub(crate) receive_maximum: u16,
    /// How many messages are sent to the broker without acknowledgement at the most.
    pub(crate) max_inflight: u16,
    pub(crate) ack_mode: AckMode,
    /// The sizes of packets for which connections were lost.
    pub(crate) refused: Arc<RefusedSizes>,
}

/// Converts the configuration into the options of the client.
pub(crate) async fn options(
    config: &Config,
    server: &ServerUrl,
    login: Option<UserInfo>,
    spec: &SessionSpec,
    odd_reasons: &OddReasons,
) -> Result<MqttOptions> {
    let client_id = spec.client_id.as_str();
    let mut options = if is_websocket(server) {
        let mut options = MqttOptions::new(
            client_id,
            Broker::websocket(web_socket::url_for_client(server)).map_err(invalid)?,
        );
        options.set_transport(Transport::ws());
        options
    } else {
        MqttOptions::new(client_id, Broker::tcp(server.host(), server.port()))
    };
    match login {
        None => {}
        Some(UserInfo { user, password: None, .. }) => {
            options.set_username(user);
        }
        Some(UserInfo { user, password: Some(password), .. }) => {
            options.set_credentials(user, password.expose_secret().to_owned());
        }
    }
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(spec.expiry.map_or(0, seconds));
    properties.receive_maximum = Some(spec.receive_maximum);
    options.set_connect_properties(properties);
    let largest = u32::try_from(config.connection.max_payload + ENVELOPE).unwrap_or(u32::MAX);
    let keep_alive = config.connection.keep_alive_seconds().unwrap_or(u16::MAX);
    // A peer that is there answers a ping, or acknowledges.
    let silence = Duration::from_secs(keep_alive.into()).mul_f32(1.5);
    options
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(largest))
        .set_outgoing_inflight_upper_limit(spec.max_inflight)
        .set_keep_alive(keep_alive)
        .set_connect_timeout(config.connection.connect_timeout)
        .set_ack_mode(spec.ack_mode)
        .set_clean_start(spec.expiry.is_none())
        .set_max_request_batch(MAX_REQUEST_BATCH)
        .set_socket_connector(connector(config, server, silence, odd_reasons).await?);
    if spec.expiry.is_some() {
        options.set_session_store(NothingInFlight(PersistedSession {
            format_version: 1,
            client_id: client_id.to_owned(),
            clean_start: false,
            session_expiry_interval: options.session_expiry_interval(),
            outgoing_inflight_upper_limit: Some(spec.max_inflight),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        }));
    }
    Ok(options)
}

/// How many requests go onto the wire in one go.
const MAX_REQUEST_BATCH: usize = 64;

/// Returns a time in whole seconds, rounded up, as far as there is room for them.
pub(crate) fn seconds(time: Duration) -> u32 {
    u32::try_from(whole_seconds(time)).unwrap_or(u32::MAX)
}

fn invalid(cause: rumqttc::OptionError) -> Error {
    error(ErrorKind::InvalidConfig, "start").with_source(cause)
}

/// Lets the client take up a session that another process left at the broker: nothing is published in these sessions, so
/// nothing of it can be in flight.
#[derive(Debug)]
struct NothingInFlight(PersistedSession);

type Stored<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for NothingInFlight {
    fn load<'a>(&'a self, _key: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        Box::pin(std::future::ready(Ok(Some(self.0.clone()))))
    }

    fn save<'a>(&'a self, _key: &'a SessionStoreKey, _session: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _key: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Returns what connects to a server: by its host and port as the URL has them, not by what the client makes of them.
async fn connector(
    config: &Config,
    server: &ServerUrl,
    silence: Duration,
    odd_reasons: &OddReasons,
) -> Result<impl Fn(String, NetworkOptions) -> BoxFuture<'static, io::Result<BoxStream>> + use<>> {
    let tls = if server.scheme().is_encrypted() { Some(tls(config).await?) } else { None };
    let (server, odd_reasons) = (server.clone(), odd_reasons.clone());
    Ok(move |_, _| -> BoxFuture<'static, io::Result<BoxStream>> {
        let (server, tls, odd_reasons) = (server.clone(), tls.clone(), odd_reasons.clone());
        Box::pin(async move {
            let socket = socket::connect(server.host(), server.port(), silence).await?;
            let stream: BoxStream = match tls {
                Some(tls) => {
                    let no_name = |_| rustls::Error::General("no certificate has such a name".to_owned());
                    let name = ServerName::try_from(server.host().to_owned());
                    let name = name.map_err(no_name).map_err(io::Error::other)?;
                    Box::new(TlsConnector::from(tls).connect(name, socket).await?)
                }
                None => Box::new(socket),
            };
            let stream: BoxStream = match is_websocket(&server) {
                // In its frames no packets are to be seen.
                true => Box::new(Requesting::new(stream, &web_socket::target(&server))),
                false => Box::new(Tapped::new(stream, KnownReasons::new(odd_reasons))),
            };
            Ok(stream)
        })
    })
}

/// Reads the certificates.
async fn tls(config: &Config) -> Result<Arc<ClientConfig>> {
    let (roots, client) =
        (config.connection.tls.root_certificates.clone(), config.connection.tls.client_certificate.clone());
    let read = spawn_blocking(move || {
        let mut authorities = RootCertStore::empty();
        // Those of the system that cannot be read are those of nobody.
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &roots {
            for certificate in certificates(path)? {
                authorities.add(certificate).map_err(|cause| unreadable(path, cause))?;
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|cause| error(ErrorKind::Tls, "start").with_source(cause))?
            .with_root_certificates(authorities);
        Ok(match &client {
            Some((path, key)) => {
                let key_file = PrivateKeyDer::from_pem_file(key).map_err(|cause| unreadable(key, cause))?;
                builder
                    .with_client_auth_cert(certificates(path)?, key_file)
                    .map_err(|cause| unreadable(path, cause))?
            }
            None => builder.with_no_client_auth(),
        })
    });
    let config = read.await.map_err(|cause| error(ErrorKind::Unexpected, "start").with_source(cause))??;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|cause| unreadable(path, cause))
}

fn unreadable(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    error(ErrorKind::InvalidConfig, "start").with_context(format!("{}", path.display())).with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_not_whole_are_rounded_up() {
        for (milliseconds, expected) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (65_534_001, 65_535)] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected, "{milliseconds}");
        }
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }
}
