use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::Context as _;
use url::Url;

use super::find::variable;

/// A server that somebody else runs.
#[derive(Debug)]
pub(super) struct External {
    pub(super) url: String,
    pub(super) address: SocketAddr,
    pub(super) monitor: String,
}

impl External {
    /// Returns the one at `PURISTA_NATS_URL`, with its monitoring port at `PURISTA_NATS_MONITOR_URL` or the usual port.
    pub(super) fn from_env() -> Option<anyhow::Result<Self>> {
        let url = variable("PURISTA_NATS_URL")?;
        Some(Self::new(&url, variable("PURISTA_NATS_MONITOR_URL")).context("PURISTA_NATS_URL"))
    }

    fn new(url: &str, monitor: Option<String>) -> anyhow::Result<Self> {
        let parsed = Url::parse(url)?;
        let host = parsed.host_str().context("no host")?;
        let port = parsed.port().unwrap_or(4222);
        let name = host.trim_matches(['[', ']']);
        let address = (name, port).to_socket_addrs()?.next().context("no address")?;
        let monitor = monitor.unwrap_or_else(|| format!("http://{host}:8222"));
        Ok(Self { url: url.into(), address, monitor: monitor.trim_end_matches('/').into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_url() {
        let read = |url, monitor: Option<&str>| {
            let external = External::new(url, monitor.map(Into::into)).unwrap();
            (external.address.to_string(), external.monitor)
        };
        let expected = |address: &str, monitor: &str| (address.to_owned(), monitor.to_owned());
        assert_eq!(read("nats://127.0.0.1", None), expected("127.0.0.1:4222", "http://127.0.0.1:8222"));
        assert_eq!(read("nats://[::1]:4333", None), expected("[::1]:4333", "http://[::1]:8222"));
        assert_eq!(
            read("tls://user:secret@127.0.0.1:4333", Some("http://127.0.0.2:1/")),
            expected("127.0.0.1:4333", "http://127.0.0.2:1")
        );
        External::new("127.0.0.1:4222", None).unwrap_err();
    }
}
