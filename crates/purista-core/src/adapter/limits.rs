//! The bounds of what users hand in.

use super::{Engine, Transport, registered::Endpoint};
use crate::{
    error::{ErrorKind, Result},
    matcher::check_identity_len,
    message::{Id, Message, Name, ServiceAddress},
};

impl<T: Transport> Engine<T> {
    /// Checks what is about to be sent.
    pub(super) fn check_limits(&self, message: &Message, operation: &'static str) -> Result<()> {
        check_message(message, self.config.max_identity_len).map_err(|error| error.with_bridge(T::NAME))?;
        let (size, limit) = (message.payload_len(), self.transport.capabilities().max_payload());
        if size > limit {
            return Err(Self::error(ErrorKind::payload_too_large(size, limit), operation));
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
    let check_name =
        |name: &Option<Name>| name.as_ref().map_or(Ok(()), |name| check_identity_len(name.len(), max));
    let check_id = |id: &Option<Id>| id.as_ref().map_or(Ok(()), |id| check_identity_len(id.len(), max));
    check_address(&message.sender.address, max)?;
    if let Some(receiver) = &message.receiver {
        check_address(&receiver.address, max)?;
        check_id(&receiver.instance_id)?;
    }
    check_name(&message.principal_id)?;
    check_name(&message.tenant_id)?;
    check_name(&message.event_name)?;
    check_id(&message.trace_id)?;
    check_id(&message.correlation_id)
}

fn check_address(address: &ServiceAddress, max: usize) -> Result<()> {
    check_identity_len(address.service_name.len(), max)?;
    check_identity_len(address.service_version.len(), max)?;
    check_identity_len(address.service_target.len(), max)
}
