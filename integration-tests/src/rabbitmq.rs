//! RabbitMQ as a broker of tests.

mod config;
mod find;
mod management;
mod node;
mod server;

pub use config::RabbitConfig;
pub use management::{Binding, Connection, Exchange, Management, Message, Queue};
pub use server::RabbitServer;

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

#[cfg(test)]
mod tests {
    #[test]
    fn parts_of_urls_are_encoded() {
        assert_eq!(super::encode("/"), "%2F");
        assert_eq!(super::encode("a-b c%ü"), "a-b%20c%25%C3%BC");
    }
}
