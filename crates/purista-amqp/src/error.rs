//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use purista_core::{Error, ErrorKind};

use crate::transport::NAME;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).bridge(NAME)
}

/// Translates what failed on a connection.
pub(crate) fn from_lapin(cause: lapin::Error, operation: &'static str) -> Error {
    let kind = match soft_error(&cause) {
        Some(AMQPSoftError::ACCESSREFUSED) => ErrorKind::Forbidden,
        Some(AMQPSoftError::PRECONDITIONFAILED) => ErrorKind::TopologyMismatch,
        Some(_) => ErrorKind::Unavailable,
        None => match cause.kind() {
            lapin::ErrorKind::SerialisationError(_) | lapin::ErrorKind::ParsingError(_) => {
                ErrorKind::Unexpected
            }
            _ => ErrorKind::Unavailable,
        },
    };
    error(kind, operation).source(cause)
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: lapin::Error, tls: bool) -> Error {
    let kind = match cause.kind() {
        lapin::ErrorKind::IOError(io) if tls && is_tls(io) => ErrorKind::Tls,
        // RabbitMQ closes the connection after an error in the handshake, or says 403.
        lapin::ErrorKind::ProtocolError(refused) => match refused.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ErrorKind::Unauthenticated,
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => ErrorKind::Forbidden,
            _ => ErrorKind::Unavailable,
        },
        _ => ErrorKind::Unavailable,
    };
    error(kind, "start").source(cause)
}

/// Returns what the broker says of an operation that closed its channel.
pub(crate) fn soft_error(cause: &lapin::Error) -> Option<AMQPSoftError> {
    let lapin::ErrorKind::ProtocolError(refused) = cause.kind() else { return None };
    match refused.kind() {
        AMQPErrorKind::Soft(soft) => Some(soft.clone()),
        AMQPErrorKind::Hard(_) => None,
    }
}

/// Everything that goes wrong with a handshake comes as an error of the socket, certificates included. A broker that
/// refuses our certificate says so, and closes at once: its word may be lost with that.
fn is_tls(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    matches!(cause.kind(), InvalidData | BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        || StdError::source(cause).is_some()
        || cause.get_ref().is_some()
}
