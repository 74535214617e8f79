//! RabbitMQ as a broker of tests.

mod cluster;
mod config;
mod find;
mod management;
mod node;
mod server;

pub use cluster::RabbitCluster;
pub use config::RabbitConfig;
pub use management::{Binding, Connection, Exchange, Management, Message, Queue};
pub use server::RabbitServer;

use anyhow::Context as _;

/// Encodes what is a part of a path, or of the user information, in a URL.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn decoded(text: &str) -> anyhow::Result<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).context("incomplete code")?;
        decoded.push(u8::from_str_radix(code, 16)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    Ok(String::from_utf8(decoded)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn parts_of_urls_are_encoded() {
        assert_eq!(super::encode("/"), "%2F");
        assert_eq!(super::encode("a-b c%ü"), "a-b%20c%25%C3%BC");
        assert_eq!(super::decoded("a-b%20c%25%C3%BC").unwrap(), "a-b c%ü");
        super::decoded("%2").unwrap_err();
    }
}
