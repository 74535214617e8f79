//! What a pub/sub component gives.

use purista_core::{Capabilities, Capability};

/// What there is with every component, also without one.
const GIVEN: Capabilities = Capabilities::NONE
    .with(Capability::NoResponder)
    .with(Capability::MessageExpiry)
    .with(Capability::Reconnect)
    .with(Capability::NativeHeaders)
    .with(Capability::WireCompatible)
    .with(Capability::CloudEvents)
    .with(Capability::Authentication);

/// What depends on how a component is configured, which no sidecar tells.
const CONFIGURABLE: [Capability; 9] = [
    Capability::DurableSubscriptions,
    Capability::SurvivesBrokerKill,
    Capability::BrokerConfirm,
    Capability::SharedSubscriptions,
    Capability::BroadcastSubscriptions,
    Capability::ManualAcknowledgement,
    Capability::DeadLetter,
    Capability::LongHandlers,
    Capability::SenderOrder,
];

/// The components whose behaviour is known, and what each gives whatever its configuration. Found in the sources of
/// components-contrib 1.18, see the README.
const KNOWN: [(&str, &[Capability]); 4] = [
    ("pubsub.in-memory", &[Capability::SharedSubscriptions]),
    (
        "pubsub.redis",
        &[Capability::SharedSubscriptions, Capability::DurableSubscriptions, Capability::BrokerConfirm],
    ),
    (RABBITMQ, &[Capability::SharedSubscriptions]),
    (
        "pubsub.jetstream",
        &[Capability::BroadcastSubscriptions, Capability::BrokerConfirm, Capability::ManualAcknowledgement],
    ),
];

/// The component that drops what nobody subscribes to, and tells whether its broker is there.
pub(crate) const RABBITMQ: &str = "pubsub.rabbitmq";

/// The component that has nothing to configure.
const IN_MEMORY: &str = "pubsub.in-memory";

/// Returns whether a component takes topics of all letters.
pub(crate) fn takes_all_topics(kind: &str) -> bool {
    matches!(kind, "pubsub.in-memory" | "pubsub.rabbitmq" | "pubsub.redis")
}

/// Returns whether a capability depends on how a component is configured.
pub(crate) fn is_configurable(capability: Capability) -> bool {
    CONFIGURABLE.contains(&capability)
}

/// Returns what a component of a type gives that is said to give something more. As long as its type is not known, it is
/// the best one.
pub(crate) fn capabilities(kind: Option<&str>, more: &[Capability]) -> Capabilities {
    let known = KNOWN.iter().filter(|(name, _)| kind.is_none_or(|kind| kind == *name));
    let mut gives: Vec<Capability> = known.flat_map(|(_, gives)| *gives).copied().collect();
    if kind != Some(IN_MEMORY) {
        gives.extend(more);
    }
    let is_given = |capability| gives.contains(&capability);
    let mut given = GIVEN;
    for capability in CONFIGURABLE.into_iter().filter(|capability| is_given(*capability)) {
        given = given.with(capability);
    }
    // A component does one or the other.
    for (promised, other) in [
        (Capability::SharedSubscriptions, Capability::BroadcastSubscriptions),
        (Capability::BroadcastSubscriptions, Capability::SharedSubscriptions),
    ] {
        if kind.is_some_and(|kind| kind != IN_MEMORY) && more.contains(&promised) && !more.contains(&other) {
            given = given.without(other);
        }
    }
    // Who subscribes to a component of an unknown type shares, which is what most do.
    if !is_given(Capability::SharedSubscriptions) && !is_given(Capability::BroadcastSubscriptions) {
        given = given.with(Capability::SharedSubscriptions);
    }
    // A component keeps messages for all subscriptions or for none.
    if kind.is_none() || !given.has(Capability::DurableSubscriptions) {
        given = given.with(Capability::TransientSubscriptions);
    }
    if !given.has(Capability::ManualAcknowledgement) {
        return given.without(Capability::DeadLetter).without(Capability::LongHandlers);
    }
    given.with(Capability::BoundedRetry).with(Capability::DelayedRetry).with(Capability::GroupHandover)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_gives_what_its_type_and_its_configuration_give() {
        let promised = [Capability::ManualAcknowledgement, Capability::DeadLetter];
        let rabbitmq = capabilities(Some("pubsub.rabbitmq"), &promised);
        assert!(rabbitmq.has(Capability::BoundedRetry) && rabbitmq.has(Capability::DeadLetter));
        assert!(!rabbitmq.has(Capability::DurableSubscriptions));
        assert!(rabbitmq.has(Capability::TransientSubscriptions));
        assert!(!capabilities(Some("pubsub.redis"), &[]).has(Capability::TransientSubscriptions));
        assert!(!capabilities(Some("pubsub.rabbitmq"), &[]).has(Capability::ManualAcknowledgement));
        assert!(!capabilities(Some("pubsub.redis"), &[Capability::DeadLetter]).has(Capability::DeadLetter));
        let in_memory = capabilities(Some(IN_MEMORY), &promised);
        assert!(!in_memory.has(Capability::ManualAcknowledgement));
        assert!(capabilities(Some("pubsub.other"), &[]).has(Capability::SharedSubscriptions));
    }

    #[test]
    fn an_unknown_type_may_be_the_best() {
        let best = capabilities(None, &[]);
        for (kind, _) in KNOWN {
            assert!(capabilities(Some(kind), &[]).iter().all(|capability| best.has(capability)), "{kind}");
        }
    }
}
