//! Names of exchanges and queues, and routing keys.

use purista_core::{
    Filter, Id, Message, MessageType, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

const STYLE: AddressStyle = AddressStyle::new('.', '*', "none", "#").with_max_token_len(64);

/// The longest name or key that AMQP has is 255 bytes.
pub(crate) const MAX_SHORT_STRING: usize = 255;

/// The longest part of a name that comes from users.
const MAX_NAME: usize = 140;

/// What travels over an exchange of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commands,
    Responses,
    Events,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Commands, Self::Responses, Self::Events];

    pub(crate) const fn of(message_type: MessageType) -> Self {
        match message_type {
            MessageType::Command => Self::Commands,
            MessageType::CommandSuccessResponse | MessageType::CommandErrorResponse => Self::Responses,
            _ => Self::Events,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Responses => "responses",
            Self::Events => "events",
        }
    }
}

/// The names of one system.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn of(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }

    /// Returns the exchange that takes what is published.
    pub(crate) fn exchange(&self, kind: Kind) -> String {
        self.of(kind.name())
    }

    pub(crate) fn command_queue(&self, command: &ServiceAddress) -> String {
        self.of(&format!("command.{}", command_key(command, None)))
    }

    /// Returns the queue of a subscriber, or of one instance of it; also the exchange in front of it.
    pub(crate) fn subscription(&self, subscriber: &ServiceAddress, instance_id: Option<&Id>) -> String {
        self.of(&format!("subscription.{}", command_key(subscriber, instance_id)))
    }

    pub(crate) fn dead_letters(&self) -> String {
        self.of("dead-letters")
    }

    /// Returns what the names of queues begin with that end with their connection.
    pub(crate) fn of_instance(&self, what: &str, whose: &str) -> String {
        self.of(&format!("{what}.{whose}"))
    }

    /// Returns the queue that whoever changes what leads to a queue declares.
    pub(crate) fn turn(&self, queue: &str) -> String {
        self.of(&format!("turn.{}", bounded_name(&[queue], MAX_NAME)))
    }

    /// Returns a name for a filter: the same for the same filter only.
    pub(crate) fn filter(&self, digest: &str) -> String {
        self.of(&format!("filter.{digest}"))
    }

    /// Returns the address of a message in thirteen tokens.
    pub(crate) fn address(&self, message: &Message) -> String {
        message.routing_address(&self.prefix, &STYLE)
    }

    /// Returns a pattern for the addresses of all messages that match, and maybe of others.
    pub(crate) fn pattern(&self, filter: &Filter) -> String {
        let mut pattern = filter.routing_pattern(&self.prefix, &STYLE);
        while pattern.len() > MAX_SHORT_STRING {
            // What is left out here is checked on receipt. The prefix stays, however long it is when it is escaped.
            let Some(longest) = pattern.split('.').skip(1).max_by_key(|token| token.len()) else { break };
            pattern = pattern.replacen(&format!(".{longest}"), ".*", 1);
        }
        pattern
    }
}

/// Returns the routing key of a command, or of a command for one certain instance.
pub(crate) fn command_key(command: &ServiceAddress, instance_id: Option<&Id>) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = command;
    let instance_id = instance_id.map(ToString::to_string);
    let mut parts: Vec<&str> = vec![service_name, service_version, service_target];
    parts.extend(instance_id.as_deref());
    bounded_name(&parts, MAX_NAME)
}

/// Returns the routing key of all that announces an event. As all keys, it is one word; it has fewer parts than others.
pub(crate) fn event_key(event_name: &str) -> String {
    format!("event-{}", bounded_name(&[event_name], MAX_NAME))
}

/// Returns the routing key of responses to one instance.
pub(crate) fn reply_key(instance_id: &Id) -> String {
    bounded_name(&[instance_id], MAX_NAME)
}

#[cfg(test)]
mod tests {
    use purista_core::{EventDraft, PartyFilter, Receiver};

    use super::*;

    #[test]
    fn addresses_have_thirteen_tokens() {
        let event = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::from("web"));
        assert_eq!(
            Names::new("purista").address(&event),
            "purista.custom_message.none.none.web.user.1.sign_up.user_registered.none.none.none.none"
        );
    }

    #[test]
    fn names_and_keys_stay_within_a_short_string() {
        let names = Names::new(&"p".repeat(64));
        for text in ["A".repeat(255), "*".repeat(255), "\u{65e5}".repeat(85), ". #".repeat(85)] {
            let (address, id) =
                (ServiceAddress::new(text.as_str(), text.as_str(), text.as_str()), Id::from(text.as_str()));
            let party = |address: &ServiceAddress| {
                let mut party = PartyFilter::default();
                party.service_name = Some(address.service_name.clone());
                party.service_target = Some(address.service_target.clone());
                party
            };
            let mut filter = Filter::event(text.as_str());
            (filter.sender, filter.receiver) = (party(&address), party(&address));
            for name in [
                names.command_queue(&address),
                names.subscription(&address, Some(&id)),
                format!("{}.{}", names.of_instance("broadcast", &command_key(&address, None)), Id::random()),
                names.pattern(&filter),
                command_key(&address, Some(&id)),
                event_key(&text),
                reply_key(&id),
            ] {
                assert!(name.len() <= MAX_SHORT_STRING, "{} bytes: {name}", name.len());
            }
            let event = EventDraft::event(&address, text.as_str())
                .with_receiver(Receiver::new(&address).with_instance_id(text.as_str()))
                .stamp(&id);
            assert_eq!(names.address(&event).split('.').count(), 13);
            assert_eq!(names.pattern(&filter).split('.').count(), 13);
        }
    }

    #[test]
    fn patterns_fit_with_a_prefix_that_is_longer_when_it_is_escaped() {
        for prefix in [" ".repeat(64), ".".repeat(64), "\u{65e5}".repeat(21)] {
            let names = Names::new(&prefix);
            let filter = Filter::event("e".repeat(64))
                .with_principal_id("p".repeat(64))
                .with_tenant_id("t".repeat(255))
                .with_sender(("s".repeat(64), "1", "m"));
            let pattern = names.pattern(&filter);
            assert!(pattern.len() <= MAX_SHORT_STRING, "{} bytes: {pattern}", pattern.len());
            assert_eq!(pattern.split('.').count(), 13);
            let first = |pattern: &str| pattern.split('.').next().map(str::to_owned);
            assert_eq!(first(&pattern), first(&names.pattern(&Filter::any())));
        }
    }

    #[test]
    fn no_two_names_are_the_same() {
        let address = |name: &str, version: &str| ServiceAddress::new(name, version, "on");
        let distinct = [
            command_key(&address("a-b", "1"), None),
            command_key(&address("a", "b-1"), None),
            command_key(&address("A", "b-1"), None),
            command_key(&address("a", "b"), Some(&Id::from("1"))),
            command_key(&ServiceAddress::new("a", "b", "on-1"), None),
            event_key("a-b-on"),
        ];
        let set: std::collections::HashSet<_> = distinct.iter().collect();
        assert_eq!(set.len(), distinct.len(), "{distinct:?}");
    }
}
