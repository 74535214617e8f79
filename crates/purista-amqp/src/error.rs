//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use purista_core::{Capability, Error, ErrorKind, adapter::is_closed};

use crate::transport::NAME;

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).with_bridge(NAME)
}

/// What the client was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum During {
    Connecting,
    /// Declaring, binding, consuming, acknowledging.
    Consuming,
    /// Publishing a message of so many bytes.
    Publishing(usize),
}

/// Translates what failed on a connection.
pub(crate) fn from_lapin(cause: lapin::Error, operation: &'static str) -> Error {
    told(error(kind(&cause, During::Consuming), operation), cause)
}

/// Adds what the broker says: it names the setting.
fn told(error: Error, cause: lapin::Error) -> Error {
    match cause.kind() {
        lapin::ErrorKind::ProtocolError(refused) => {
            error.with_context(refused.get_message().as_str()).with_source(cause)
        }
        _ => error.with_source(cause),
    }
}

/// Translates why the broker did not take a message of so many bytes.
pub(crate) fn from_publish(cause: lapin::Error, size: usize) -> Error {
    let kind = kind(&cause, During::Publishing(size));
    let error = error(kind, "send");
    match kind {
        ErrorKind::PayloadTooLarge { .. } => {
            error.with_context("the broker's max_message_size").with_source(cause)
        }
        _ => told(error, cause),
    }
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: lapin::Error, tls: bool) -> Error {
    let kind = match cause.kind() {
        lapin::ErrorKind::IOError(io) if tls && is_tls(io) => ErrorKind::Tls,
        _ => kind(&cause, During::Connecting),
    };
    match cause.kind() {
        // That is all RabbitMQ does when it cannot agree, and it takes three seconds for it.
        lapin::ErrorKind::IOError(io) if !tls && io.kind() == io::ErrorKind::ConnectionReset => {
            let context = "the connection was reset; its log tells why, such as a frame_max below 8192";
            error(kind, "start").with_context(context).with_source(cause)
        }
        _ => told(error(kind, "start"), cause),
    }
}

fn kind(cause: &lapin::Error, during: During) -> ErrorKind {
    match cause.kind() {
        lapin::ErrorKind::ProtocolError(refused) => {
            reply_kind(refused.get_id(), refused.get_message().as_str(), during)
        }
        lapin::ErrorKind::SerialisationError(_) | lapin::ErrorKind::ParsingError(_) => ErrorKind::Unexpected,
        _ => ErrorKind::Unavailable,
    }
}

/// Translates a reply code of AMQP 0-9-1, as RabbitMQ uses it.
fn reply_kind(code: u16, text: &str, during: During) -> ErrorKind {
    match (code, during) {
        (CONTENT_TOO_LARGE | PRECONDITION_FAILED, During::Publishing(size)) => match size_limit(text) {
            Some(limit) => ErrorKind::payload_too_large(size, limit),
            None => ErrorKind::InvalidMessage,
        },
        // In the handshake RabbitMQ says so of credentials.
        (ACCESS_REFUSED, During::Connecting) => ErrorKind::Unauthenticated,
        (INVALID_PATH | NOT_ALLOWED | ACCESS_REFUSED, _) => ErrorKind::Forbidden,
        // A virtual host has as many queues as it may have.
        (PRECONDITION_FAILED, _) if is_limit_text(text) => ErrorKind::Forbidden,
        (INTERNAL_ERROR, During::Consuming) if text.contains("feature flag is disabled") => {
            ErrorKind::Unsupported(Capability::DurableSubscriptions)
        }
        (PRECONDITION_FAILED | RESOURCE_LOCKED, _) => ErrorKind::TopologyMismatch,
        // What this bridge sends is not what the broker understands.
        (FRAME_ERROR | SYNTAX_ERROR | COMMAND_INVALID | UNEXPECTED_FRAME | NOT_IMPLEMENTED, _) => {
            ErrorKind::Unexpected
        }
        // A connection that is ended, something that was removed a moment ago, a failure inside the broker: not now.
        _ => ErrorKind::Unavailable,
    }
}

const CONTENT_TOO_LARGE: u16 = 311;
const INVALID_PATH: u16 = 402;
const ACCESS_REFUSED: u16 = 403;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const FRAME_ERROR: u16 = 501;
const SYNTAX_ERROR: u16 = 502;
const COMMAND_INVALID: u16 = 503;
const UNEXPECTED_FRAME: u16 = 505;
const NOT_ALLOWED: u16 = 530;
const NOT_IMPLEMENTED: u16 = 540;
const INTERNAL_ERROR: u16 = 541;

/// Reads how large a message may be out of the broker's refusal of one that was larger: `message size 2097401 is larger
/// than configured max size 1048576`.
fn size_limit(text: &str) -> Option<usize> {
    let (_, limit) = text.split_once("larger than")?.1.split_once("max size")?;
    let limit: String = limit.trim_start().chars().take_while(char::is_ascii_digit).collect();
    limit.parse().ok()
}

/// Returns how large a message may be, if the broker refused one for that.
pub(crate) fn max_message_size(cause: &lapin::Error) -> Option<usize> {
    let lapin::ErrorKind::ProtocolError(refused) = cause.kind() else { return None };
    size_limit(refused.get_message().as_str())
}

/// Returns whether an operator's limit is reached.
pub(crate) fn is_limit(cause: &lapin::Error) -> bool {
    let lapin::ErrorKind::ProtocolError(refused) = cause.kind() else { return false };
    is_limit_text(refused.get_message().as_str())
}

/// `queue limit in vhost '/' (10) is reached`
fn is_limit_text(text: &str) -> bool {
    text.contains("limit in vhost")
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
    cause.kind() == io::ErrorKind::InvalidData
        || is_closed(cause.kind())
        || cause.source().is_some()
        || cause.get_ref().is_some()
}

#[cfg(test)]
mod tests {
    use During::{Connecting, Consuming, Publishing};
    use lapin::protocol::AMQPError;

    use super::*;

    /// All reply codes of AMQP 0-9-1: while connecting, while consuming, while publishing.
    #[test]
    fn each_reply_code_has_its_kind() {
        use ErrorKind::{
            Forbidden, InvalidMessage, TopologyMismatch, Unauthenticated, Unavailable, Unexpected,
        };
        let table = [
            (311, "CONTENT_TOO_LARGE", [Unavailable, Unavailable, InvalidMessage]),
            (312, "NO_ROUTE", [Unavailable; 3]),
            (313, "NO_CONSUMERS", [Unavailable; 3]),
            (320, "CONNECTION_FORCED", [Unavailable; 3]),
            (402, "INVALID_PATH", [Forbidden; 3]),
            (403, "ACCESS_REFUSED", [Unauthenticated, Forbidden, Forbidden]),
            (404, "NOT_FOUND", [Unavailable; 3]),
            (405, "RESOURCE_LOCKED", [TopologyMismatch; 3]),
            (406, "PRECONDITION_FAILED", [TopologyMismatch, TopologyMismatch, InvalidMessage]),
            (501, "FRAME_ERROR", [Unexpected; 3]),
            (502, "SYNTAX_ERROR", [Unexpected; 3]),
            (503, "COMMAND_INVALID", [Unexpected; 3]),
            (504, "CHANNEL_ERROR", [Unavailable; 3]),
            (505, "UNEXPECTED_FRAME", [Unexpected; 3]),
            (506, "RESOURCE_ERROR", [Unavailable; 3]),
            (530, "NOT_ALLOWED", [Forbidden; 3]),
            (540, "NOT_IMPLEMENTED", [Unexpected; 3]),
            (541, "INTERNAL_ERROR", [Unavailable; 3]),
        ];
        for (code, text, expected) in table {
            let kinds = [Connecting, Consuming, Publishing(1)].map(|during| reply_kind(code, text, during));
            assert_eq!(kinds, expected, "{code} {text}");
            // What is temporary is what the broker may do later without anybody changing anything.
            let is_temporary = expected.map(ErrorKind::is_temporary);
            assert_eq!(is_temporary, expected.map(|kind| kind == Unavailable), "{code} {text}");
            // The client knows it, and does not take it for another one.
            let known = AMQPError::from_id(code, text.into()).map(|known| known.get_id());
            assert!(known.is_none_or(|known| known == code), "{code}: {known:?}");
        }
    }

    #[test]
    fn the_text_tells_limits() {
        let size = "PRECONDITION_FAILED - message size 2097401 is larger than configured max size 1048576";
        assert_eq!(reply_kind(406, size, Publishing(7)), ErrorKind::payload_too_large(7, 1_048_576));
        let size = "PRECONDITION_FAILED - message size 600000000 is larger than max size 536870912";
        assert_eq!(reply_kind(406, size, Publishing(7)), ErrorKind::payload_too_large(7, 536_870_912));
        let queues =
            "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (1) is reached";
        assert_eq!(reply_kind(406, queues, Consuming), ErrorKind::Forbidden);
        let flag = "INTERNAL_ERROR - Cannot declare a queue: the corresponding feature flag is disabled";
        let lacks = ErrorKind::Unsupported(Capability::DurableSubscriptions);
        assert_eq!(reply_kind(541, flag, Consuming), lacks);
        for odd in ["", "larger than", "is larger than configured max size many", "max size 5"] {
            assert_eq!(reply_kind(406, odd, Publishing(7)), ErrorKind::InvalidMessage, "{odd}");
        }
    }

    #[test]
    fn what_never_came_from_the_broker_is_temporary() {
        let lost = || lapin::Error::from(lapin::ErrorKind::MissingHeartbeatError);
        assert_eq!(from_lapin(lost(), "register").kind(), ErrorKind::Unavailable);
        assert_eq!(from_publish(lost(), 1).kind(), ErrorKind::Unavailable);
        assert_eq!(from_connect(lost(), true).kind(), ErrorKind::Unavailable);
        let reset = || lapin::Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(from_connect(reset(), true).kind(), ErrorKind::Tls);
        assert_eq!(from_connect(reset(), false).kind(), ErrorKind::Unavailable);
        let refused = AMQPError::new(AMQPSoftError::NOTFOUND.into(), "no queue".into());
        let refused = lapin::Error::from(lapin::ErrorKind::ProtocolError(refused));
        assert_eq!(soft_error(&refused), Some(AMQPSoftError::NOTFOUND));
    }
}
