//! Whether a URL says that the connection is encrypted.

use purista::core::adapter::ServerUrl;

use super::finding::Verdict;

/// Judges a URL by its scheme, its hosts and the option that demands TLS.
pub(super) fn judge(url: &str) -> (Verdict, &'static str) {
    let url = url.trim();
    let servers = url.split(['?', '#']).next().unwrap_or_default();
    let scheme = ServerUrl::scheme_of(url).unwrap_or_default();
    let encrypts =
        |scheme: &str| matches!(scheme, "tls" | "nats+tls" | "amqps" | "mqtts" | "wss" | "mqtt+wss");
    let each: Vec<_> = servers.split(',').collect();
    let all_encrypt =
        each.iter().all(|server| encrypts(&ServerUrl::scheme_of(server).unwrap_or_else(|| scheme.clone())));
    if all_encrypt || url.contains("require_tls=true") {
        return (Verdict::Ok, "encrypted, and the certificate of the broker is checked");
    }
    if each.iter().all(|server| is_loopback(server)) {
        return (Verdict::Ok, "not encrypted, and it stays on this machine");
    }
    match &*scheme {
        "" | "nats" => (
            Verdict::Warn,
            "not demanded: it is encrypted only if the server asks for it; nats+tls:// demands it",
        ),
        "dapr" => (Verdict::Warn, "the way to a sidecar is not encrypted: it belongs on the same machine"),
        _ => (Verdict::Warn, "not encrypted: amqps://, mqtts:// and mqtt+wss:// encrypt"),
    }
}

fn is_loopback(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.rsplit('@').next().unwrap_or_default().split('/').next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_machine_is_encrypted_or_told() {
        for (url, verdict) in [
            ("nats://127.0.0.1:4222", Verdict::Ok),
            ("localhost,127.0.0.1:4223?prefix=a", Verdict::Ok),
            ("amqp://ada:pw@[::1]:5672/vhost", Verdict::Ok),
            ("nats+tls://broker,other", Verdict::Ok),
            ("nats://broker?require_tls=true", Verdict::Ok),
            ("amqps://one,amqps://two", Verdict::Ok),
            ("amqps://one,amqp://two", Verdict::Warn),
            ("nats://localhost,broker", Verdict::Warn),
            ("broker", Verdict::Warn),
            ("mqtt://localhost@broker", Verdict::Warn),
            ("mqtt+ws://broker/mqtt#prefix=a", Verdict::Warn),
            ("dapr://sidecar:3500", Verdict::Warn),
        ] {
            assert_eq!(judge(url).0, verdict, "{url}");
        }
    }
}
