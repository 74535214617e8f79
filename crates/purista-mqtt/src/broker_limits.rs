use purista_core::{Capability, Error, ErrorKind, Result};
use rumqttc::{ConnAck, ConnAckProperties};

use crate::{
    error::error,
    options::{SessionSpec, seconds},
};

/// The least packet size with which there is room for topics and filters.
const LEAST_PACKET: usize = 2_048;

/// What the broker said of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_packet: usize,
    pub(crate) retains: bool,
    /// How many messages are under way from the broker without acknowledgement. Mosquitto has one limit for both ways.
    pub(crate) window: usize,
}

impl Limits {
    /// Reads what the broker gives, if it is enough.
    pub(crate) fn of(connack: &ConnAck, spec: &SessionSpec) -> Result<Self> {
        let properties = connack.properties.as_ref();
        let has = |flag: fn(&ConnAckProperties) -> Option<u8>| properties.and_then(flag) != Some(0);
        if !has(|broker| broker.shared_subscription_available) {
            return Err(unsupported(Capability::SharedSubscriptions, "shared subscriptions"));
        }
        let expiry = properties.and_then(|broker| broker.session_expiry_interval);
        let asked = spec.expiry.map_or(0, seconds);
        if spec.expiry.is_some() && expiry == Some(0) {
            return Err(unsupported(Capability::DurableSubscriptions, "sessions that outlive a connection"));
        }
        if let Some(granted) = expiry.filter(|granted| *granted < asked) {
            return Err(mismatch(format!(
                "the broker keeps sessions for {granted} seconds, not for {asked}: persistent_sessions"
            )));
        }
        if !has(|broker| broker.max_qos) {
            return Err(unsupported(Capability::BrokerConfirm, "quality of service 1 (max_qos)"));
        }
        let needed = [
            (has(|broker| broker.wildcard_subscription_available), "wildcards in subscriptions"),
            (has(|broker| broker.subscription_identifiers_available), "subscription identifiers"),
        ];
        if let Some((_, what)) = needed.into_iter().find(|(is_given, _)| !is_given) {
            return Err(mismatch(format!("the broker has no {what}")));
        }
        let max_packet = properties.and_then(|broker| usize::try_from(broker.max_packet_size?).ok());
        if let Some(max) = max_packet.filter(|max| *max < LEAST_PACKET) {
            return Err(mismatch(format!(
                "the broker takes packets of {max} bytes (max_packet_size), and at least {LEAST_PACKET} are needed"
            )));
        }
        let retains = has(|broker| broker.retain_available);
        let window = properties.and_then(|broker| broker.receive_max).unwrap_or(u16::MAX);
        let window = usize::from(window.min(spec.receive_maximum));
        Ok(Self { max_packet: max_packet.unwrap_or(usize::MAX), retains, window })
    }
}

fn unsupported(capability: Capability, what: &str) -> Error {
    error(ErrorKind::Unsupported(capability), "start").with_context(format!("the broker has no {what}"))
}

fn mismatch(context: String) -> Error {
    error(ErrorKind::TopologyMismatch, "start").with_context(context)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rumqttc::{AckMode, ConnectReturnCode};

    use super::*;

    fn of(change: impl FnOnce(&mut ConnAckProperties), expiry: Option<u64>) -> Result<Limits> {
        let mut properties = ConnAckProperties {
            session_expiry_interval: None,
            receive_max: None,
            max_qos: None,
            retain_available: None,
            max_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        change(&mut properties);
        let connack = ConnAck {
            session_present: false,
            code: ConnectReturnCode::Success,
            properties: Some(properties),
        };
        let spec = SessionSpec {
            client_id: "client".to_owned(),
            expiry: expiry.map(Duration::from_secs),
            receive_maximum: 100,
            max_inflight: 1,
            ack_mode: AckMode::Manual,
            refused: std::sync::Arc::default(),
        };
        Limits::of(&connack, &spec)
    }

    #[test]
    fn what_is_needed_is_named() {
        let unsupported = ErrorKind::Unsupported;
        type Lacks = fn(&mut ConnAckProperties);
        let table: [(&str, ErrorKind, Lacks); 7] = [
            ("shared", unsupported(Capability::SharedSubscriptions), |it| {
                it.shared_subscription_available = Some(0)
            }),
            ("max_qos", unsupported(Capability::BrokerConfirm), |it| it.max_qos = Some(0)),
            ("wildcards", ErrorKind::TopologyMismatch, |it| it.wildcard_subscription_available = Some(0)),
            ("identifiers", ErrorKind::TopologyMismatch, |it| {
                it.subscription_identifiers_available = Some(0)
            }),
            ("max_packet_size", ErrorKind::TopologyMismatch, |it| it.max_packet_size = Some(2_047)),
            ("outlive", unsupported(Capability::DurableSubscriptions), |it| {
                it.session_expiry_interval = Some(0)
            }),
            ("for 59 seconds, not for 60", ErrorKind::TopologyMismatch, |it| {
                it.session_expiry_interval = Some(59)
            }),
        ];
        for (named, kind, change) in table {
            let error = of(change, Some(60)).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
    }

    #[test]
    fn the_smaller_limit_counts() {
        let limits = of(|_| {}, Some(60)).unwrap();
        assert_eq!((limits.max_packet, limits.retains, limits.window), (usize::MAX, true, 100));
        let smaller = of(
            |it| {
                it.max_packet_size = Some(2_048);
                it.retain_available = Some(0);
                it.receive_max = Some(20);
                it.max_qos = Some(1);
                // Nothing is kept of a session that asks for nothing.
                it.session_expiry_interval = Some(0);
            },
            None,
        );
        let limits = smaller.unwrap();
        assert_eq!((limits.max_packet, limits.retains, limits.window), (2_048, false, 20));
    }
}
