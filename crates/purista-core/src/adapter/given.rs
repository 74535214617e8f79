use crate::capability::{Capabilities, Capability};

/// What a broker gives that routes each message to whoever consumes at that moment.
pub const ROUTING: Capabilities = Capabilities::NONE
    .with(Capability::TransientSubscriptions)
    .with(Capability::SharedSubscriptions)
    .with(Capability::BroadcastSubscriptions)
    .with(Capability::NoResponder)
    .with(Capability::MessageExpiry)
    .with(Capability::SenderOrder)
    .with(Capability::RegisterAfterStart)
    .with(Capability::Unregister);

/// What a broker adds that confirms what it takes, and waits for the acknowledgement of what it delivers.
pub const ACKNOWLEDGING: Capabilities = Capabilities::NONE
    .with(Capability::BrokerConfirm)
    .with(Capability::ManualAcknowledgement)
    .with(Capability::BoundedRetry)
    .with(Capability::DelayedRetry);

/// What a connection to the servers of a [`ServerList`](super::ServerList) adds.
pub const CONNECTION: Capabilities =
    Capabilities::NONE.with(Capability::Reconnect).with(Capability::Tls).with(Capability::Authentication);
