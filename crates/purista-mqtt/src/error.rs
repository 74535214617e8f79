//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use purista_core::{Error, ErrorKind};
use rumqttc::{
    ConnectReturnCode, ConnectionError, PubAckReason, StateError, SubscribeReasonCode, tokio_rustls::rustls,
};

use crate::transport::NAME;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).bridge(NAME)
}

/// Says that the connection over which something was sent is lost.
pub(crate) fn lost(operation: &'static str) -> Error {
    error(ErrorKind::Unavailable, operation).context("the connection was lost")
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: ConnectionError, is_encrypted: bool) -> Error {
    let kind = match &cause {
        ConnectionError::Tls(_) => ErrorKind::Tls,
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadAuthenticationMethod => ErrorKind::Unauthenticated,
            ConnectReturnCode::Banned => ErrorKind::Forbidden,
            _ => ErrorKind::Unavailable,
        },
        // A broker that refuses our certificate says so, and closes at once: its word may be lost with that.
        _ if is_encrypted && (is_tls(&cause) || is_closed(&cause)) => ErrorKind::Tls,
        _ => ErrorKind::Unavailable,
    };
    error(kind, "start").source(cause)
}

fn causes(cause: &ConnectionError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = match cause {
        // It does not say that this is its cause.
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::Io(cause))) => cause,
        cause => cause,
    };
    std::iter::successors(Some(first), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

fn is_closed(cause: &ConnectionError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let closes = |kind| matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    matches!(cause, ConnectionError::MqttState(StateError::ConnectionAborted))
        || causes(cause).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| closes(io.kind())))
}

fn is_tls(cause: &ConnectionError) -> bool {
    causes(cause).any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// Translates why the broker does not take a message.
pub(crate) fn refused(reason: PubAckReason, operation: &'static str) -> Error {
    let kind = match reason {
        PubAckReason::NotAuthorized => ErrorKind::Forbidden,
        PubAckReason::QuotaExceeded => ErrorKind::Backpressure,
        PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => ErrorKind::InvalidMessage,
        _ => ErrorKind::Unexpected,
    };
    error(kind, operation).context(format!("the broker answers {reason:?}"))
}

/// Translates why the broker does not take a subscription.
pub(crate) fn not_subscribed(reason: SubscribeReasonCode) -> Error {
    let kind = match reason {
        SubscribeReasonCode::NotAuthorized => ErrorKind::Forbidden,
        SubscribeReasonCode::QuotaExceeded => ErrorKind::Backpressure,
        _ => ErrorKind::Unexpected,
    };
    error(kind, "register").context(format!("the broker answers {reason:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_found_behind_io() {
        let io = |cause: io::Error| ConnectionError::Io(cause);
        let alert = || io(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete));
        assert_eq!(from_connect(alert(), true).kind(), ErrorKind::Tls);
        for (kind, without, with) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable, ErrorKind::Unavailable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable, ErrorKind::Tls),
        ] {
            assert_eq!(from_connect(io(kind.into()), false).kind(), without, "{kind}");
            assert_eq!(from_connect(io(kind.into()), true).kind(), with, "{kind}");
        }
    }
}
