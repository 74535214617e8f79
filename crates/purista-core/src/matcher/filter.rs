use serde_json::json;

use crate::{
    error::Error,
    message::{Id, Message, MessageType, Name, Receiver, ServiceAddress},
};

/// Which messages a subscription gets: all whose fields equal those that are set here.
///
/// A field that is not set takes any message; one that is set takes no message without that field. Values are
/// compared byte by byte. An empty filter takes everything.
///
/// ```
/// use purista_core::{Filter, MessageType};
///
/// let registrations = Filter::event("userRegistered").with_tenant_id("acme");
/// let all_errors = Filter::message_type(MessageType::CommandErrorResponse);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Filter {
    /// The type of message.
    pub message_type: Option<MessageType>,
    /// The event it announces.
    pub event_name: Option<Name>,
    /// On whose behalf it was sent.
    pub principal_id: Option<Name>,
    /// The tenant it belongs to.
    pub tenant_id: Option<Name>,
    /// Who sent it.
    pub sender: PartyFilter,
    /// Whom it is for.
    pub receiver: PartyFilter,
}

/// The part of a [`Filter`] that looks at the sender or the receiver.
///
/// ```
/// use purista_core::{EventDraft, Filter, Id, PartyFilter};
///
/// let of_users = Filter::any().with_sender(PartyFilter::any().with_service_name("User"));
/// let message = |sender| EventDraft::event(sender, "happened").stamp(&Id::from("web"));
/// assert!(of_users.matches(&message(("User", "1", "signUp"))));
/// assert!(!of_users.matches(&message(("Mail", "1", "send"))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PartyFilter {
    /// The service's name.
    pub service_name: Option<Name>,
    /// The service's version.
    pub service_version: Option<Name>,
    /// The command, subscription or function.
    pub service_target: Option<Name>,
    /// The bridge instance.
    pub instance_id: Option<Id>,
}

impl PartyFilter {
    /// Takes any sender or receiver, also none.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Sets the service's name.
    #[must_use]
    pub fn with_service_name(mut self, name: impl Into<Name>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Sets the service's version.
    #[must_use]
    pub fn with_service_version(mut self, version: impl Into<Name>) -> Self {
        self.service_version = Some(version.into());
        self
    }

    /// Sets the command, subscription or function.
    #[must_use]
    pub fn with_service_target(mut self, target: impl Into<Name>) -> Self {
        self.service_target = Some(target.into());
        self
    }

    /// Sets the bridge instance.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: impl Into<Id>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    fn matches(&self, address: Option<&ServiceAddress>, instance_id: Option<&Id>) -> bool {
        accepts(self.service_name.as_ref(), address.map(|party| &party.service_name))
            && accepts(self.service_version.as_ref(), address.map(|party| &party.service_version))
            && accepts(self.service_target.as_ref(), address.map(|party| &party.service_target))
            && accepts(self.instance_id.as_ref(), instance_id)
    }

    fn names(&self) -> [Option<&Name>; 3] {
        [self.service_name.as_ref(), self.service_version.as_ref(), self.service_target.as_ref()]
    }
}

impl<A: Into<ServiceAddress>> From<A> for PartyFilter {
    fn from(address: A) -> Self {
        let ServiceAddress { service_name, service_version, service_target } = address.into();
        Self {
            service_name: Some(service_name),
            service_version: Some(service_version),
            service_target: Some(service_target),
            instance_id: None,
        }
    }
}

impl Filter {
    /// Takes every message.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Takes messages that announce this event.
    #[must_use]
    pub fn event(event_name: impl Into<Name>) -> Self {
        Self::any().with_event_name(event_name)
    }

    /// Takes messages of this type.
    #[must_use]
    pub fn message_type(message_type: MessageType) -> Self {
        Self::any().with_message_type(message_type)
    }

    /// Writes the filter as text that is the same for the same filter only, to compare it with one that was kept.
    #[must_use]
    pub fn exact(&self) -> String {
        let Self { message_type, event_name, principal_id, tenant_id, sender, receiver } = self;
        let party = |party: &PartyFilter| {
            let PartyFilter { service_name, service_version, service_target, instance_id } = party;
            json!([service_name, service_version, service_target, instance_id])
        };
        let message_type = message_type.map(MessageType::as_str);
        json!([message_type, event_name, principal_id, tenant_id, party(sender), party(receiver)]).to_string()
    }

    /// Sets the type of message.
    #[must_use]
    pub fn with_message_type(mut self, message_type: MessageType) -> Self {
        self.message_type = Some(message_type);
        self
    }

    /// Sets the event.
    #[must_use]
    pub fn with_event_name(mut self, event_name: impl Into<Name>) -> Self {
        self.event_name = Some(event_name.into());
        self
    }

    /// Sets the principal.
    #[must_use]
    pub fn with_principal_id(mut self, principal_id: impl Into<Name>) -> Self {
        self.principal_id = Some(principal_id.into());
        self
    }

    /// Sets the tenant.
    #[must_use]
    pub fn with_tenant_id(mut self, tenant_id: impl Into<Name>) -> Self {
        self.tenant_id = Some(tenant_id.into());
        self
    }

    /// Sets the sender: a whole address, or a [`PartyFilter`].
    #[must_use]
    pub fn with_sender(mut self, sender: impl Into<PartyFilter>) -> Self {
        self.sender = sender.into();
        self
    }

    /// Sets the receiver: a whole address, or a [`PartyFilter`].
    #[must_use]
    pub fn with_receiver(mut self, receiver: impl Into<PartyFilter>) -> Self {
        self.receiver = receiver.into();
        self
    }

    /// Decides whether a message is for a subscription with this filter. This verdict holds on every adapter.
    #[must_use]
    pub fn matches(&self, message: &Message) -> bool {
        let receiver = message.receiver.as_ref();
        self.message_type.is_none_or(|wanted| wanted == message.message_type())
            && accepts(self.event_name.as_ref(), message.event_name.as_ref())
            && accepts(self.principal_id.as_ref(), message.principal_id.as_ref())
            && accepts(self.tenant_id.as_ref(), message.tenant_id.as_ref())
            && self.sender.matches(Some(&message.sender.address), Some(&message.sender.instance_id))
            && self.receiver.matches(
                receiver.map(|receiver: &Receiver| &receiver.address),
                receiver.and_then(|receiver| receiver.instance_id.as_ref()),
            )
    }

    /// Checks that no value is empty or longer than a bridge takes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidMessage`](crate::ErrorKind::InvalidMessage) naming the length.
    pub fn validate(&self, max_identity_len: usize) -> Result<(), Error> {
        let names = [self.event_name.as_ref(), self.principal_id.as_ref(), self.tenant_id.as_ref()];
        let names = names.into_iter().chain(self.sender.names()).chain(self.receiver.names()).flatten();
        let ids = [&self.sender.instance_id, &self.receiver.instance_id].into_iter().flatten();
        for length in names.map(|name| name.len()).chain(ids.map(|id| id.len())) {
            check_identity_len(length, max_identity_len)?;
        }
        Ok(())
    }
}

fn accepts<T: PartialEq>(wanted: Option<&T>, value: Option<&T>) -> bool {
    wanted.is_none() || wanted == value
}

/// Checks the length of a name or id that a user gave.
pub(crate) fn check_identity_len(length: usize, max: usize) -> Result<(), Error> {
    match length {
        0 => Err(Error::invalid_message("an empty name or id")),
        _ if length > max => {
            Err(Error::invalid_message(format!("a name or id of {length} bytes is over the limit of {max}")))
        }
        _ => Ok(()),
    }
}
