//! From the client's errors to those of the bridge.

use std::{error::Error as StdError, io};

use purista_core::{
    Capability, Error, ErrorKind, Result,
    adapter::{causes, is_closed},
};
use rumqttc::{
    ConnectReturnCode, ConnectionError, DisconnectReasonCode, PubAckReason, StateError, SubscribeReasonCode,
    UnsubAckReason, tokio_rustls::rustls,
};

use crate::{polling::Cut, transport::NAME};

/// Creates an error of this bridge.
pub(crate) fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).with_bridge(NAME)
}

/// Says that the connection over which something was sent is lost.
pub(crate) fn lost(operation: &'static str) -> Error {
    error(ErrorKind::Unavailable, operation).with_context("the connection was lost")
}

/// Translates why a connection could not be made.
pub(crate) fn from_connect(cause: ConnectionError, is_encrypted: bool, client_id: &str) -> Error {
    if let ConnectionError::ConnectionRefused(code) = cause {
        let context = format!("the broker answers {code:?} to the client {client_id}");
        return error(refusal_of_client(code), "start").with_context(context).with_source(cause);
    }
    if all_causes(&cause).any(|cause| kind_of_io(cause) == Some(io::ErrorKind::Unsupported)) {
        return error(ErrorKind::TopologyMismatch, "start")
            .with_context("the broker does not speak MQTT 5")
            .with_source(cause);
    }
    let is_tls = matches!(cause, ConnectionError::Tls(_)) || (is_encrypted && is_tls(&cause));
    match (is_tls, is_cut(&cause)) {
        // A broker that refuses our certificate says so, and closes at once: its word may be lost with that.
        (false, true) if is_encrypted => error(ErrorKind::Tls, "start").with_source(cause),
        (false, true) => error(ErrorKind::Unavailable, "start")
            .with_context(
                "the broker closes the connection without an answer: it may have too many (max_connections)",
            )
            .with_source(cause),
        (is_tls, _) => {
            let kind = if is_tls { ErrorKind::Tls } else { ErrorKind::Unavailable };
            error(kind, "start").with_source(cause)
        }
    }
}

const fn refusal_of_client(code: ConnectReturnCode) -> ErrorKind {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadClientId, BadUserNamePassword, Banned, ClientIdentifierNotValid,
        ConnectionRateExceeded, ImplementationSpecificError, MalformedPacket, NotAuthorized, PacketTooLarge,
        PayloadFormatInvalid, ProtocolError, QoSNotSupported, QuotaExceeded, RefusedProtocolVersion,
        RetainNotSupported, ServerBusy, ServerMoved, ServerUnavailable, ServiceUnavailable, Success,
        TopicNameInvalid, UnspecifiedError, UnsupportedProtocolVersion, UseAnotherServer,
    };
    match code {
        BadUserNamePassword | NotAuthorized | BadAuthenticationMethod => ErrorKind::Unauthenticated,
        Banned => ErrorKind::Forbidden,
        // The id of the instance, or the server that was named.
        BadClientId | ClientIdentifierNotValid | ServerMoved => ErrorKind::InvalidConfig,
        ServiceUnavailable | ServerUnavailable | ServerBusy | UseAnotherServer => ErrorKind::Unavailable,
        QuotaExceeded | ConnectionRateExceeded => ErrorKind::Backpressure,
        // It speaks another version of MQTT, or takes only packets that are smaller than the first one.
        RefusedProtocolVersion | UnsupportedProtocolVersion | PacketTooLarge => ErrorKind::TopologyMismatch,
        QoSNotSupported => ErrorKind::Unsupported(Capability::BrokerConfirm),
        RetainNotSupported => ErrorKind::Unsupported(Capability::DeadLetter),
        Success
        | UnspecifiedError
        | MalformedPacket
        | ProtocolError
        | ImplementationSpecificError
        | TopicNameInvalid
        | PayloadFormatInvalid => ErrorKind::Unexpected,
    }
}

/// Tells what the loss of a connection says about the packets that were under way.
pub(crate) fn cut(cause: &ConnectionError) -> Cut {
    match cause {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => match reason_code {
            DisconnectReasonCode::PacketTooLarge => Cut::TooLarge,
            DisconnectReasonCode::SessionTakenOver => Cut::TakenOver,
            _ => Cut::Other,
        },
        ConnectionError::Timeout(_) | ConnectionError::MqttState(StateError::AwaitPingResp) => Cut::Other,
        // Also an acknowledgement with a reason that the client does not know: it does not say which.
        _ => Cut::Unclear,
    }
}

fn all_causes(cause: &ConnectionError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    causes(match cause {
        // It does not say that this is its cause.
        ConnectionError::MqttState(
            StateError::Deserialization(rumqttc::Error::Io(cause)) | StateError::Io(cause),
        ) => cause,
        cause => cause,
    })
}

fn is_cut(cause: &ConnectionError) -> bool {
    matches!(cause, ConnectionError::MqttState(StateError::ConnectionAborted))
        || all_causes(cause).any(|cause| kind_of_io(cause).is_some_and(is_closed))
}

fn kind_of_io(cause: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
}

fn is_tls(cause: &ConnectionError) -> bool {
    all_causes(cause).any(|cause| cause.is::<rustls::Error>())
}

/// Translates why the broker does not take a message.
pub(crate) fn refused(reason: PubAckReason, operation: &'static str) -> Error {
    let kind = match reason {
        PubAckReason::NotAuthorized => ErrorKind::Forbidden,
        PubAckReason::QuotaExceeded => ErrorKind::Backpressure,
        PubAckReason::PacketIdentifierInUse => ErrorKind::Unavailable,
        PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => ErrorKind::InvalidMessage,
        PubAckReason::NoMatchingSubscribers => ErrorKind::Unroutable,
        PubAckReason::Success
        | PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError => ErrorKind::Unexpected,
    };
    error(kind, operation).with_context(format!("the broker answers {reason:?}"))
}

/// Translates why the broker does not take a message, for a reason that MQTT does not have there. That of a packet which is
/// too large has its sizes, and is not among them.
pub(crate) fn refused_oddly(reason: u8, operation: &'static str) -> Error {
    let kind = match DisconnectReasonCode::try_from(reason) {
        Ok(DisconnectReasonCode::ServerBusy | DisconnectReasonCode::MessageRateTooHigh) => {
            ErrorKind::Backpressure
        }
        Ok(DisconnectReasonCode::RetainNotSupported) => ErrorKind::Unsupported(Capability::DeadLetter),
        Ok(DisconnectReasonCode::QoSNotSupported) => ErrorKind::Unsupported(Capability::BrokerConfirm),
        _ => ErrorKind::Unexpected,
    };
    error(kind, operation).with_context(format!("the broker answers {reason:#04x}"))
}

/// Translates why the broker does not take a subscription.
pub(crate) fn not_subscribed(reason: SubscribeReasonCode) -> Error {
    let kind = match reason {
        SubscribeReasonCode::NotAuthorized => ErrorKind::Forbidden,
        SubscribeReasonCode::QuotaExceeded => ErrorKind::Backpressure,
        SubscribeReasonCode::PkidInUse => ErrorKind::Unavailable,
        SubscribeReasonCode::TopicFilterInvalid => ErrorKind::InvalidMessage,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => {
            ErrorKind::Unsupported(Capability::SharedSubscriptions)
        }
        SubscribeReasonCode::SubscriptionIdNotSupported
        | SubscribeReasonCode::WildcardSubscriptionsNotSupported => ErrorKind::TopologyMismatch,
        SubscribeReasonCode::Success(_)
        | SubscribeReasonCode::Failure
        | SubscribeReasonCode::Unspecified
        | SubscribeReasonCode::ImplementationSpecific => ErrorKind::Unexpected,
    };
    error(kind, "register").with_context(format!("the broker answers {reason:?}"))
}

/// Translates what the broker says to the end of a subscription.
pub(crate) fn unsubscribed(reason: UnsubAckReason) -> Result<()> {
    let kind = match reason {
        UnsubAckReason::Success | UnsubAckReason::NoSubscriptionExisted => return Ok(()),
        UnsubAckReason::NotAuthorized => ErrorKind::Forbidden,
        UnsubAckReason::PacketIdentifierInUse => ErrorKind::Unavailable,
        UnsubAckReason::TopicFilterInvalid => ErrorKind::InvalidMessage,
        UnsubAckReason::UnspecifiedError | UnsubAckReason::ImplementationSpecificError => {
            ErrorKind::Unexpected
        }
    };
    Err(error(kind, "unregister").with_context(format!("the broker answers {reason:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    use ErrorKind::{
        Backpressure, Forbidden, InvalidConfig, InvalidMessage, TopologyMismatch, Unauthenticated,
        Unavailable, Unexpected, Unroutable, Unsupported,
    };

    const NO_QOS: ErrorKind = Unsupported(Capability::BrokerConfirm);
    const NO_RETAIN: ErrorKind = Unsupported(Capability::DeadLetter);

    /// Whether trying again later may help.
    const LATER: bool = true;
    const NEVER: bool = false;

    fn check(what: impl std::fmt::Debug, error: &Error, kind: ErrorKind, is_temporary: bool) {
        assert_eq!((error.kind(), error.kind().is_temporary()), (kind, is_temporary), "{what:?}");
        assert!(!matches!(error.kind(), ErrorKind::PayloadTooLarge { .. }), "{what:?}");
    }

    /// The reasons of MQTT 5 (table 2.6) in a CONNACK, and those of MQTT 3 that the client reads.
    #[test]
    fn what_a_broker_answers_to_a_connection() {
        use ConnectReturnCode as Code;
        for (code, kind, is_temporary) in [
            (Code::UnspecifiedError, Unexpected, NEVER),
            (Code::MalformedPacket, Unexpected, NEVER),
            (Code::ProtocolError, Unexpected, NEVER),
            (Code::ImplementationSpecificError, Unexpected, NEVER),
            (Code::UnsupportedProtocolVersion, TopologyMismatch, NEVER),
            (Code::RefusedProtocolVersion, TopologyMismatch, NEVER),
            (Code::ClientIdentifierNotValid, InvalidConfig, NEVER),
            (Code::BadClientId, InvalidConfig, NEVER),
            (Code::BadUserNamePassword, Unauthenticated, NEVER),
            (Code::NotAuthorized, Unauthenticated, NEVER),
            (Code::ServerUnavailable, Unavailable, LATER),
            (Code::ServiceUnavailable, Unavailable, LATER),
            (Code::ServerBusy, Unavailable, LATER),
            (Code::Banned, Forbidden, NEVER),
            (Code::BadAuthenticationMethod, Unauthenticated, NEVER),
            (Code::TopicNameInvalid, Unexpected, NEVER),
            (Code::PacketTooLarge, TopologyMismatch, NEVER),
            (Code::QuotaExceeded, Backpressure, LATER),
            (Code::PayloadFormatInvalid, Unexpected, NEVER),
            (Code::RetainNotSupported, NO_RETAIN, NEVER),
            (Code::QoSNotSupported, NO_QOS, NEVER),
            (Code::UseAnotherServer, Unavailable, LATER),
            (Code::ServerMoved, InvalidConfig, NEVER),
            (Code::ConnectionRateExceeded, Backpressure, LATER),
        ] {
            let error = from_connect(ConnectionError::ConnectionRefused(code), false, "client-1");
            check(code, &error, kind, is_temporary);
            assert!(error.to_string().contains("client-1"), "{error}");
        }
    }

    #[test]
    fn what_a_broker_answers_to_a_message() {
        use PubAckReason as Reason;
        for (reason, kind, is_temporary) in [
            (Reason::NoMatchingSubscribers, Unroutable, LATER),
            (Reason::UnspecifiedError, Unexpected, NEVER),
            (Reason::ImplementationSpecificError, Unexpected, NEVER),
            (Reason::NotAuthorized, Forbidden, NEVER),
            (Reason::TopicNameInvalid, InvalidMessage, NEVER),
            (Reason::PacketIdentifierInUse, Unavailable, LATER),
            (Reason::QuotaExceeded, Backpressure, LATER),
            (Reason::PayloadFormatInvalid, InvalidMessage, NEVER),
        ] {
            check(reason, &refused(reason, "emit"), kind, is_temporary);
        }
        for (reason, kind, is_temporary) in [
            (0x89, Backpressure, LATER),
            (0x96, Backpressure, LATER),
            (0x9a, NO_RETAIN, NEVER),
            (0x9b, NO_QOS, NEVER),
            (0x8f, Unexpected, NEVER),
            (0xff, Unexpected, NEVER),
        ] {
            check(reason, &refused_oddly(reason, "emit"), kind, is_temporary);
        }
    }

    #[test]
    fn what_a_broker_answers_to_a_subscription_and_its_end() {
        use SubscribeReasonCode as Reason;
        let no_shared = Unsupported(Capability::SharedSubscriptions);
        for (reason, kind, is_temporary) in [
            (Reason::Failure, Unexpected, NEVER),
            (Reason::Unspecified, Unexpected, NEVER),
            (Reason::ImplementationSpecific, Unexpected, NEVER),
            (Reason::NotAuthorized, Forbidden, NEVER),
            (Reason::TopicFilterInvalid, InvalidMessage, NEVER),
            (Reason::PkidInUse, Unavailable, LATER),
            (Reason::QuotaExceeded, Backpressure, LATER),
            (Reason::SharedSubscriptionsNotSupported, no_shared, NEVER),
            (Reason::SubscriptionIdNotSupported, TopologyMismatch, NEVER),
            (Reason::WildcardSubscriptionsNotSupported, TopologyMismatch, NEVER),
        ] {
            check(reason, &not_subscribed(reason), kind, is_temporary);
        }
        use UnsubAckReason as End;
        for (reason, kind, is_temporary) in [
            (End::UnspecifiedError, Unexpected, NEVER),
            (End::ImplementationSpecificError, Unexpected, NEVER),
            (End::NotAuthorized, Forbidden, NEVER),
            (End::TopicFilterInvalid, InvalidMessage, NEVER),
            (End::PacketIdentifierInUse, Unavailable, LATER),
        ] {
            check(reason, &unsubscribed(reason).unwrap_err(), kind, is_temporary);
        }
        for reason in [End::Success, End::NoSubscriptionExisted] {
            unsubscribed(reason).unwrap();
        }
    }

    /// Each loss is restored; what is asked is whether a message is to blame for it.
    #[test]
    fn why_a_broker_ends_a_connection() {
        let told = |code: u8| DisconnectReasonCode::try_from(code).ok();
        let mut known = 0;
        for (code, reason_code) in (0..=0xff).filter_map(|code| Some((code, told(code)?))) {
            known += 1;
            let state = StateError::ServerDisconnect { reason_code, reason_string: None };
            let expected = match code {
                0x95 => Cut::TooLarge,
                0x8e => Cut::TakenOver,
                _ => Cut::Other,
            };
            assert_eq!(cut(&ConnectionError::MqttState(state)), expected, "{reason_code:?}");
        }
        assert_eq!(known, 29);
        let malformed = rumqttc::Error::ProtocolViolation(DisconnectReasonCode::MalformedPacket);
        for (cause, expected) in [
            (ConnectionError::MqttState(StateError::ConnectionAborted), Cut::Unclear),
            (ConnectionError::MqttState(StateError::Deserialization(malformed)), Cut::Unclear),
            (ConnectionError::Io(io::ErrorKind::ConnectionReset.into()), Cut::Unclear),
            (ConnectionError::MqttState(StateError::AwaitPingResp), Cut::Other),
        ] {
            assert_eq!(cut(&cause), expected, "{cause:?}");
        }
    }

    #[test]
    fn tls_is_found_behind_io() {
        let io = |cause: io::Error| ConnectionError::Io(cause);
        let alert = || io(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete));
        assert_eq!(from_connect(alert(), true, "").kind(), ErrorKind::Tls);
        for (kind, without, with) in [
            (io::ErrorKind::ConnectionRefused, Unavailable, Unavailable),
            (io::ErrorKind::ConnectionReset, Unavailable, ErrorKind::Tls),
        ] {
            assert_eq!(from_connect(io(kind.into()), false, "").kind(), without, "{kind}");
            assert_eq!(from_connect(io(kind.into()), true, "").kind(), with, "{kind}");
        }
    }
}
