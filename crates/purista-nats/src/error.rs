//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use async_nats::{ConnectErrorKind, rustls};
use purista_core::{
    Capability, Error, ErrorKind,
    adapter::{causes, is_closed},
};

use crate::transport::NAME;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).with_bridge(NAME)
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: async_nats::ConnectError, tls_required: bool) -> Error {
    let kind = match cause.kind() {
        _ if is_tls(&cause) => ErrorKind::Tls,
        // A server that refuses our certificate says so, and closes at once: its word may be lost with that.
        ConnectErrorKind::Io if tls_required && is_cut(&cause) => ErrorKind::Tls,
        ConnectErrorKind::Tls => ErrorKind::Tls,
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ErrorKind::Unauthenticated
        }
        ConnectErrorKind::ServerParse => ErrorKind::InvalidConfig,
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => ErrorKind::Unavailable,
    };
    let Some(text) = said_by_server(&cause) else { return error(kind, "start").with_source(cause) };
    let lower = text.to_ascii_lowercase();
    let kind = match kind {
        _ if lower.contains("tls required") => ErrorKind::Tls,
        _ if lower.contains("requires headers support") => {
            let error = error(ErrorKind::Unsupported(Capability::NoResponder), "start");
            return error
                .with_context(format!("{text}; see no_header_support of the server"))
                .with_source(cause);
        }
        _ if lower.contains("authentication expired") || lower.contains("authentication revoked") => {
            ErrorKind::Unauthenticated
        }
        kind => kind,
    };
    let error = error(kind, "start");
    if lower.contains("connections exceeded") {
        let setting = "max_connections of the server, or conn of the account";
        return error.with_context(format!("{text}; see {setting}")).with_source(cause);
    }
    error.with_context(text).with_source(cause)
}

/// Returns why the server does not take the connection, if it says so.
fn said_by_server(cause: &(dyn StdError + 'static)) -> Option<String> {
    causes(cause).find_map(|cause| match cause.downcast_ref() {
        Some(async_nats::ServerError::Other(text)) => Some(text.clone()),
        _ => None,
    })
}

fn is_cut(cause: &(dyn StdError + 'static)) -> bool {
    let io = causes(cause).find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|io| is_closed(io.kind()))
}

fn is_tls(cause: &(dyn StdError + 'static)) -> bool {
    causes(cause).any(|cause| cause.is::<rustls::Error>())
}

/// Translates why a message could not be published.
pub(crate) fn from_publish(cause: async_nats::PublishError, operation: &'static str) -> Error {
    use async_nats::PublishErrorKind as Kind;
    let kind = match cause.kind() {
        Kind::MaxPayloadExceeded => ErrorKind::payload_too_large(0, 0),
        Kind::InvalidSubject => ErrorKind::InvalidMessage,
        Kind::Send => ErrorKind::Unavailable,
    };
    error(kind, operation).with_source(cause)
}

/// Reads what the server did not allow from its message.
pub(crate) fn violation(text: &str) -> Option<Violation> {
    const PUBLISH: &str = "permissions violation for publish to ";
    const SUBSCRIPTION: &str = "permissions violation for subscription to ";
    let lower = text.to_ascii_lowercase();
    if lower.starts_with(PUBLISH) {
        return Some(Violation::Publish(quoted(text)?.0));
    }
    if !lower.starts_with(SUBSCRIPTION) {
        return None;
    }
    let (subject, rest) = quoted(text)?;
    let names_group = rest.trim_start().to_ascii_lowercase().starts_with("using queue");
    let queue_group = if names_group { Some(quoted(rest)?.0) } else { None };
    Some(Violation::Subscription { subject, queue_group })
}

/// Reads the first text in quotes, as Go writes it, and returns it with what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let begin = text.find('"')? + 1;
    let (mut unquoted, mut is_escaped) = (String::new(), false);
    for (at, char) in text[begin..].char_indices() {
        match char {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return Some((unquoted, &text[begin + at + 1..])),
            _ => {
                // Characters that cannot be shown have longer escapes; no subject of a bridge has them.
                is_escaped = false;
                unquoted.push(char);
            }
        }
    }
    None
}

/// What the server did not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    Publish(String),
    Subscription { subject: String, queue_group: Option<String> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_name_their_subject() {
        let publish = |subject: &str| Some(Violation::Publish(subject.to_owned()));
        let subscription = |subject: &str, queue_group: Option<&str>| {
            Some(Violation::Subscription {
                subject: subject.to_owned(),
                queue_group: queue_group.map(str::to_owned),
            })
        };
        for (text, wanted) in [
            (r#"Permissions Violation for Publish to "a.b""#, publish("a.b")),
            (r#"permissions violation for publish to "a.B""#, publish("a.B")),
            (r#"Permissions Violation for Publish to "a\"b\\c""#, publish(r#"a"b\c"#)),
            (r#"Permissions Violation for Subscription to "a.*""#, subscription("a.*", None)),
            (r#"Permissions Violation for Subscription to "a.*" (sid "7")"#, subscription("a.*", None)),
            (
                r#"Permissions Violation for Subscription to "a.*" using queue "Q_1""#,
                subscription("a.*", Some("Q_1")),
            ),
            (
                r#"Permissions Violation for Subscription to "a.*" using queue "Q_1" (sid "7")"#,
                subscription("a.*", Some("Q_1")),
            ),
            (r#"Permissions Violation for Subscription to "a.*" using queue"#, None),
            (r#"Permissions Violation for Subscription to "a.*"#, None),
            ("Permissions Violation for Publish to", None),
            ("Slow Consumer", None),
        ] {
            assert_eq!(violation(text), wanted, "{text}");
        }
    }

    #[test]
    fn each_error_of_the_client_has_its_kind() {
        use async_nats::{
            ConnectError, ConnectErrorKind as Connect, PublishError, PublishErrorKind as Publish,
        };
        for (kind, wanted, is_temporary) in [
            (Connect::ServerParse, ErrorKind::InvalidConfig, false),
            (Connect::Dns, ErrorKind::Unavailable, true),
            (Connect::Authentication, ErrorKind::Unauthenticated, false),
            (Connect::AuthorizationViolation, ErrorKind::Unauthenticated, false),
            (Connect::TimedOut, ErrorKind::Unavailable, true),
            (Connect::Tls, ErrorKind::Tls, false),
            (Connect::Io, ErrorKind::Unavailable, true),
            (Connect::MaxReconnects, ErrorKind::Unavailable, true),
        ] {
            let error = from_connect(ConnectError::new(kind), false);
            assert_eq!((error.kind(), error.kind().is_temporary()), (wanted, is_temporary), "{kind:?}");
        }
        for (kind, wanted, is_temporary) in [
            (Publish::MaxPayloadExceeded, ErrorKind::payload_too_large(0, 0), false),
            (Publish::InvalidSubject, ErrorKind::InvalidMessage, false),
            (Publish::Send, ErrorKind::Unavailable, true),
        ] {
            let error = from_publish(PublishError::new(kind), "emit");
            assert_eq!((error.kind(), error.kind().is_temporary()), (wanted, is_temporary), "{kind:?}");
        }
    }

    /// What a server says instead of taking a connection.
    #[test]
    fn each_refusal_of_a_connection_has_its_kind() {
        for (text, wanted, named) in [
            ("maximum connections exceeded", ErrorKind::Unavailable, "max_connections"),
            ("maximum account active connections exceeded", ErrorKind::Unavailable, "max_connections"),
            ("Authentication Timeout", ErrorKind::Unavailable, "Authentication Timeout"),
            ("User Authentication Expired", ErrorKind::Unauthenticated, "Expired"),
            ("User Authentication Revoked", ErrorKind::Unauthenticated, "Revoked"),
            ("Account Authentication Expired", ErrorKind::Unauthenticated, "Expired"),
            ("Secure Connection - TLS Required", ErrorKind::Tls, "TLS"),
        ] {
            let said = async_nats::ServerError::Other(text.to_owned());
            let cause = async_nats::ConnectError::with_source(ConnectErrorKind::Io, said);
            let error = from_connect(cause, false);
            assert_eq!(error.kind(), wanted, "{text}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn tls_is_found_behind_io() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete);
        let cause = async_nats::ConnectError::with_source(ConnectErrorKind::Io, inner);
        assert_eq!(from_connect(cause, false).kind(), ErrorKind::Tls);
        for (kind, without, with) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable, ErrorKind::Unavailable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable, ErrorKind::Tls),
        ] {
            let cause = || async_nats::ConnectError::with_source(ConnectErrorKind::Io, io::Error::from(kind));
            assert_eq!(from_connect(cause(), false).kind(), without, "{kind}");
            assert_eq!(from_connect(cause(), true).kind(), with, "{kind}");
        }
    }
}
