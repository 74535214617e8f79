//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use async_nats::{ConnectErrorKind, jetstream, rustls};
use purista_core::{Error, ErrorKind};

use crate::transport::NAME;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).bridge(NAME)
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: async_nats::ConnectError, tls_required: bool) -> Error {
    let kind = match cause.kind() {
        _ if is_tls(&cause) => ErrorKind::Tls,
        // A server that refuses our certificate says so, and closes at once: its word may be lost with that.
        ConnectErrorKind::Io if tls_required && is_closed(&cause) => ErrorKind::Tls,
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
    error(kind, "start").source(cause)
}

fn is_closed(cause: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut next = Some(cause);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        }
        next = cause.source();
    }
    false
}

fn is_tls(cause: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(cause);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if inner.is_some_and(|inner| is_tls(inner)) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Translates why a message could not be published.
pub(crate) fn from_publish(cause: async_nats::PublishError, operation: &'static str) -> Error {
    use async_nats::PublishErrorKind as Kind;
    let kind = match cause.kind() {
        Kind::MaxPayloadExceeded => ErrorKind::InvalidMessage,
        Kind::InvalidSubject => ErrorKind::InvalidMessage,
        Kind::Send => ErrorKind::Unavailable,
    };
    error(kind, operation).source(cause)
}

/// Translates what JetStream's API refused.
pub(crate) fn refused(refusal: &jetstream::Error, operation: &'static str) -> Error {
    error(ErrorKind::Unexpected, operation).context(refusal.to_string())
}

/// Reads the subject that the server did not allow from its message.
pub(crate) fn violation(text: &str) -> Option<Violation<'_>> {
    let lower = text.to_ascii_lowercase();
    let subject = text.split('"').nth(1)?;
    if lower.starts_with("permissions violation for publish") {
        Some(Violation::Publish(subject))
    } else if lower.starts_with("permissions violation for subscription") {
        Some(Violation::Subscription(subject))
    } else {
        None
    }
}

/// What the server did not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation<'t> {
    Publish(&'t str),
    Subscription(&'t str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_name_their_subject() {
        let publish = violation("Permissions Violation for Publish to \"a.b\"");
        assert_eq!(publish, Some(Violation::Publish("a.b")));
        let subscription = violation("Permissions Violation for Subscription to \"a.*\" using queue \"q\"");
        assert_eq!(subscription, Some(Violation::Subscription("a.*")));
        assert_eq!(violation("Slow Consumer"), None);
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
