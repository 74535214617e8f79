//! The bounds of what users hand in.

use super::{Engine, Transport, registered::Endpoint};
use crate::{
    error::{ErrorKind, Result},
    matcher::check_identity_len,
    message::{Id, Message, ServiceAddress},
};

impl<T: Transport> Engine<T> {
    /// Checks what is about to be sent.
    pub(super) fn check_limits(&self, message: &Message, operation: &'static str) -> Result<()> {
        check_message(message, self.config.max_identity_len).map_err(|error| error.bridge(T::NAME))?;
        let (size, limit) = (message.payload_len(), self.transport.capabilities().max_payload());
        if size > limit {
            return Err(Self::error(ErrorKind::PayloadTooLarge { size, limit }, operation));
        }
        Ok(())
    }
}

pub(super) fn check_endpoint(endpoint: &Endpoint, max: usize) -> Result<()> {
    match endpoint {
        Endpoint::Command(command, _) => {
            let event_name = command.options.success_event.as_ref();
            event_name.map_or(Ok(()), |name| check_identity_len(name.len(), max))?;
            check_address(&command.address, max)
        }
        Endpoint::Subscription(subscription, _) => {
            subscription.filter.validate(max)?;
            check_address(&subscription.subscriber, max)
        }
    }
}

pub(super) fn check_message(message: &Message, max: usize) -> Result<()> {
    let receiver = message.receiver.as_ref();
    check_address(&message.sender.address, max)?;
    receiver.map_or(Ok(()), |receiver| check_address(&receiver.address, max))?;
    let names = [&message.principal_id, &message.tenant_id, &message.event_name];
    let ids = [
        message.trace_id.as_ref(),
        message.correlation_id.as_ref(),
        receiver.and_then(|receiver| receiver.instance_id.as_ref()),
    ];
    let lengths =
        names.into_iter().flatten().map(|name| name.len()).chain(ids.into_iter().flatten().map(Id::len));
    lengths.into_iter().try_for_each(|length| check_identity_len(length, max))
}

fn check_address(address: &ServiceAddress, max: usize) -> Result<()> {
    let ServiceAddress { service_name, service_version, service_target } = address;
    [service_name, service_version, service_target]
        .into_iter()
        .try_for_each(|name| check_identity_len(name.len(), max))
}
