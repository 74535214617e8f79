//! What URLs with real brokers behind them must do, the same for all adapters. Each gives its broker, and says how it
//! builds a bridge.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use purista_conformance::{BrokerCertificate, ClientCertificate};
use purista_core::{Error, ErrorKind};

use crate::{Certificates, FaultProxy, free_port};

/// Listeners with TLS that a broker has, each with the scheme of its URLs.
pub type Listeners = Vec<(&'static str, SocketAddr)>;

/// Connects to brokers by each host that their certificate names, and to brokers whose certificate is of another host or
/// authority. `start` starts a broker, which ends when what it returns is dropped; `connect` builds a bridge by a URL and
/// the file of an authority, starts it and uses it.
///
/// # Errors
///
/// If a right certificate is refused, or a wrong one is not refused with [`Tls`](ErrorKind::Tls).
pub async fn check_certificates<B>(
    start: impl AsyncFn(&Certificates) -> (B, Listeners),
    connect: impl AsyncFn(&str, &Path) -> purista_core::Result<()>,
) -> Result<()> {
    for (certificate, refused) in [
        (BrokerCertificate::Trusted, None),
        (BrokerCertificate::OtherHost, Some(ErrorKind::Tls)),
        (BrokerCertificate::OtherAuthority, Some(ErrorKind::Tls)),
    ] {
        let certificates = Certificates::create(certificate, ClientCertificate::NotAsked)?;
        let (_broker, listeners) = start(&certificates).await;
        for (scheme, address) in listeners {
            let proxy = FaultProxy::start_at(Ipv6Addr::LOCALHOST.into(), address)?;
            for host in [proxy.address(), address] {
                let url = format!("{scheme}://{host}");
                let outcome = connect(&url, &certificates.authority()).await;
                let kind = outcome.as_ref().err().map(Error::kind);
                ensure!(kind == refused, "{url} with {certificate:?}: {outcome:?}");
            }
        }
    }
    Ok(())
}

/// Connects to three servers, two of which are not there: the one that refuses the login is told, wherever it stands.
/// `start` builds a bridge by a list of URLs, and starts it.
///
/// # Errors
///
/// If the bridge starts, or another reason than this login is told.
pub async fn check_most_telling(
    strict: &str,
    start: impl AsyncFn(&str) -> purista_core::Result<()>,
) -> Result<()> {
    let (scheme, _) = strict.split_once("://").context("a URL")?;
    let nobody = || Ok::<_, anyhow::Error>(format!("{scheme}://127.0.0.1:{}", free_port()?));
    for servers in [[nobody()?, strict.to_owned(), nobody()?], [strict.to_owned(), nobody()?, nobody()?]] {
        let error = start(&servers.join(",")).await.err().context("nobody may connect")?;
        let told = format!("none of 3 servers can be used: this is of {strict}");
        ensure!(error.kind() == ErrorKind::Unauthenticated && error.to_string().contains(&told), "{error:?}");
    }
    Ok(())
}
