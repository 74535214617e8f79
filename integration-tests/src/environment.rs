use std::{env, net::SocketAddr, net::ToSocketAddrs as _};

use anyhow::Context as _;
use url::Url;

/// Returns a variable of the environment, if it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A broker that somebody else runs: where clients connect, and where it tells about itself.
#[derive(Debug)]
pub(crate) struct External {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) http: String,
}

/// The variables that name a broker, and the ports it usually has.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) url: &'static str,
    pub(crate) port: u16,
    pub(crate) http: &'static str,
    pub(crate) http_port: u16,
}

impl External {
    /// Returns the broker that the environment names.
    pub(crate) fn from_env(names: &Names) -> Option<anyhow::Result<Self>> {
        let url = variable(names.url)?;
        Some(Self::new(names, &url, variable(names.http)).context(names.url))
    }

    fn new(names: &Names, url: &str, http: Option<String>) -> anyhow::Result<Self> {
        let parsed = Url::parse(url)?;
        let host = parsed.host_str().context("no host")?;
        let port = parsed.port().unwrap_or(names.port);
        let name = host.trim_matches(['[', ']']);
        let address = (name, port).to_socket_addrs()?.next().context("no address")?;
        let http = http.unwrap_or_else(|| format!("http://{host}:{}", names.http_port));
        Ok(Self { url: url.into(), address, http: http.trim_end_matches('/').into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_url() {
        let names = Names { url: "A", port: 4222, http: "B", http_port: 8222 };
        let read = |url, http: Option<&str>| {
            let external = External::new(&names, url, http.map(Into::into)).unwrap();
            (external.address.to_string(), external.http)
        };
        let expected = |address: &str, http: &str| (address.to_owned(), http.to_owned());
        assert_eq!(read("nats://127.0.0.1", None), expected("127.0.0.1:4222", "http://127.0.0.1:8222"));
        assert_eq!(read("nats://[::1]:4333", None), expected("[::1]:4333", "http://[::1]:8222"));
        assert_eq!(
            read("tls://user:secret@127.0.0.1:4333", Some("http://127.0.0.2:1/")),
            expected("127.0.0.1:4333", "http://127.0.0.2:1")
        );
        External::new(&names, "127.0.0.1:4222", None).unwrap_err();
    }
}
