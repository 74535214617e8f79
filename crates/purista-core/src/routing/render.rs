//! From messages and filters to addresses and patterns.

use super::{Address, AddressStyle, Endpoint, Pattern};
use crate::{
    matcher::{Filter, PartyFilter},
    message::{Id, Message, Name, Receiver, ServiceAddress},
};

impl Message {
    /// Renders where the message goes on a routed broker.
    ///
    /// ```
    /// use purista_core::{EventDraft, Filter, Id, routing::AddressStyle};
    ///
    /// const NATS: AddressStyle = AddressStyle::new('.', '*', "empty", ">$");
    ///
    /// let message = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::from("web"));
    /// assert_eq!(
    ///     message.routing_address("purista", &NATS),
    ///     "purista.custom_message.empty.empty.web.user.1.sign_up.user_registered.empty.empty.empty.empty",
    /// );
    /// assert_eq!(
    ///     Filter::event("userRegistered").routing_pattern("purista", &NATS),
    ///     "purista.*.*.*.*.*.*.*.user_registered.*.*.*.*",
    /// );
    /// ```
    #[must_use]
    pub fn routing_address(&self, prefix: &str, style: &AddressStyle) -> String {
        let receiver_instance = self.receiver.as_ref().and_then(|receiver| receiver.instance_id.as_ref());
        with_ids(Some(&self.sender.instance_id), receiver_instance, |sender_id, receiver_id| {
            Address {
                principal_id: self.principal_id.as_deref(),
                tenant_id: self.tenant_id.as_deref(),
                sender: of_address(&self.sender.address, sender_id),
                event_name: self.event_name.as_deref(),
                receiver: match &self.receiver {
                    Some(Receiver { address, .. }) => of_address(address, receiver_id),
                    None => Endpoint::default(),
                },
                ..Address::new(prefix, self.message_type().as_str())
            }
            .render(style)
        })
    }
}

impl Filter {
    /// Renders which addresses a subscription with this filter wants: at least those of all messages that match.
    #[must_use]
    pub fn routing_pattern(&self, prefix: &str, style: &AddressStyle) -> String {
        let (sender_id, receiver_id) = (self.sender.instance_id.as_ref(), self.receiver.instance_id.as_ref());
        with_ids(sender_id, receiver_id, |sender_id, receiver_id| {
            Pattern {
                message_type: self.message_type.map(|message_type| message_type.as_str()),
                principal_id: self.principal_id.as_deref(),
                tenant_id: self.tenant_id.as_deref(),
                sender: of_party(&self.sender, sender_id),
                event_name: self.event_name.as_deref(),
                receiver: of_party(&self.receiver, receiver_id),
                ..Pattern::new(prefix)
            }
            .render(style)
        })
    }
}

fn of_address<'a>(address: &'a ServiceAddress, instance_id: Option<&'a str>) -> Endpoint<'a> {
    let ServiceAddress { service_name, service_version, service_target } = address;
    Endpoint { instance_id, ..Endpoint::new(service_name, service_version, service_target) }
}

fn of_party<'a>(party: &'a PartyFilter, instance_id: Option<&'a str>) -> Endpoint<'a> {
    let text = |name: &'a Option<Name>| name.as_deref();
    Endpoint {
        instance_id,
        name: text(&party.service_name),
        version: text(&party.service_version),
        target: text(&party.service_target),
    }
}

fn with_ids<R>(
    one: Option<&Id>,
    other: Option<&Id>,
    read: impl FnOnce(Option<&str>, Option<&str>) -> R,
) -> R {
    match (one, other) {
        (None, None) => read(None, None),
        (Some(one), None) => one.with_str(|one| read(Some(one), None)),
        (None, Some(other)) => other.with_str(|other| read(None, Some(other))),
        (Some(one), Some(other)) => one.with_str(|one| other.with_str(|other| read(Some(one), Some(other)))),
    }
}
