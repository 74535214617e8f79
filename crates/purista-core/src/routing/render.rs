//! From messages and filters to addresses and patterns.

use super::{Address, AddressStyle, Endpoint, Pattern};
use crate::{
    matcher::{Filter, PartyFilter},
    message::{Message, Receiver, ServiceAddress},
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
        Address {
            principal_id: self.principal_id.as_deref(),
            tenant_id: self.tenant_id.as_deref(),
            sender: of_address(&self.sender.address, Some(&self.sender.instance_id)),
            event_name: self.event_name.as_deref(),
            receiver: match &self.receiver {
                Some(Receiver { address, instance_id }) => of_address(address, instance_id.as_deref()),
                None => Endpoint::default(),
            },
            ..Address::new(prefix, self.message_type().as_str())
        }
        .render(style)
    }
}

impl Filter {
    /// Renders which addresses a subscription with this filter wants: at least those of all messages that match.
    #[must_use]
    pub fn routing_pattern(&self, prefix: &str, style: &AddressStyle) -> String {
        Pattern {
            message_type: self.message_type.map(|message_type| message_type.as_str()),
            principal_id: self.principal_id.as_deref(),
            tenant_id: self.tenant_id.as_deref(),
            sender: of_party(&self.sender),
            event_name: self.event_name.as_deref(),
            receiver: of_party(&self.receiver),
            ..Pattern::new(prefix)
        }
        .render(style)
    }
}

fn of_address<'a>(address: &'a ServiceAddress, instance_id: Option<&'a str>) -> Endpoint<'a> {
    let ServiceAddress { service_name, service_version, service_target } = address;
    Endpoint { instance_id, ..Endpoint::new(service_name, service_version, service_target) }
}

fn of_party(party: &PartyFilter) -> Endpoint<'_> {
    Endpoint {
        instance_id: party.instance_id.as_deref(),
        name: party.service_name.as_deref(),
        version: party.service_version.as_deref(),
        target: party.service_target.as_deref(),
    }
}
