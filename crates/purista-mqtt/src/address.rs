//! Topics, topic filters, and the names of clients and groups.

use purista_core::{
    Filter, Id, Message, MessageType, PartyFilter, Result, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

/// No token is so long that a topic could exceed the 65,535 bytes that it may have.
const STYLE: AddressStyle = AddressStyle::new('/', '+', "none", "#$").with_max_token_len(255);

/// The longest name of a client or group.
const MAX_NAME: usize = 200;

/// What the TypeScript original lets its users name (wire format, section 3).
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// What the filters of shared subscriptions begin with.
    pub(crate) prefix: String,
    /// The group that shares commands.
    pub(crate) commands: String,
    /// What stands for an absent part, if not the default does.
    pub(crate) empty_part: Option<String>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { prefix: "$share".to_owned(), commands: "sharedpurista".to_owned(), empty_part: None }
    }
}

impl Shares {
    /// Returns whether prefix and group are one level each.
    pub(crate) fn are_levels(&self) -> bool {
        let is_level = |text: &str| {
            let ends_it = |letter: char| matches!(letter, '/' | '+' | '#') || letter.is_control();
            !text.is_empty() && text.len() <= 64 && !text.contains(ends_it)
        };
        is_level(&self.prefix) && is_level(&self.commands)
    }
}

/// The topics and names of one system.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    /// The first level of all topics.
    first: String,
    style: AddressStyle,
    shares: Shares,
}

impl Names {
    pub(crate) fn new(prefix: &str, shares: &Shares) -> Result<Self> {
        let names = Self::standard(prefix);
        let style = match &shares.empty_part {
            Some(marker) => STYLE.with_empty_marker(marker)?,
            None => STYLE,
        };
        Ok(Self { style, shares: shares.clone(), ..names })
    }

    /// Names with the original's defaults.
    pub(crate) fn standard(prefix: &str) -> Self {
        // The first level of a pattern is the prefix, whatever stands for what is absent.
        let pattern = Filter::any().routing_pattern(prefix, &STYLE);
        let first = pattern.split('/').next().unwrap_or_default().to_owned();
        Self { prefix: prefix.to_owned(), first, style: STYLE, shares: Shares::default() }
    }

    /// Returns where a message goes.
    pub(crate) fn topic(&self, message: &Message) -> String {
        message.routing_address(&self.prefix, &self.style)
    }

    /// Returns what a subscription listens to: the topics of all messages that match, and maybe of others.
    pub(crate) fn pattern(&self, filter: &Filter) -> String {
        filter.routing_pattern(&self.prefix, &self.style)
    }

    /// Returns what the instances of a command share, in both worlds: its commands, and streams that are opened there.
    pub(crate) fn command(&self, command: &ServiceAddress) -> [String; 2] {
        [MessageType::Command, MessageType::Stream].map(|message_type| {
            let filter = Filter::message_type(message_type).with_receiver(command);
            self.shared(&self.shares.commands, &self.pattern(&filter))
        })
    }

    /// Returns where a command is given back to those who share it. What else a topic tells is left out, so that few others
    /// listen to it.
    pub(crate) fn given_back(&self, command: &ServiceAddress) -> String {
        let filter = Filter::message_type(MessageType::Command).with_receiver(command);
        self.pattern(&filter).replace('+', "given_back")
    }

    /// Returns the filter by which the instances of a command or subscriber share what comes to another one.
    pub(crate) fn shared_by(&self, address: &ServiceAddress, filter: &str) -> String {
        self.shared(&name(address), filter)
    }

    fn shared(&self, group: &str, filter: &str) -> String {
        format!("{}/{group}/{filter}", self.shares.prefix)
    }

    /// Returns whether a filter is one that instances share.
    pub(crate) fn is_shared(&self, filter: &str) -> bool {
        filter.strip_prefix(self.shares.prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns where one instance passes a command on to those whom it is meant for. It is exact, unlike the topic of the
    /// command.
    pub(crate) fn command_members(&self, command: &ServiceAddress) -> String {
        self.topic_of("command_member", &[&name(command)])
    }

    /// Returns where commands for one certain instance go that came to another one.
    pub(crate) fn command_member(&self, command: &ServiceAddress, instance_id: &Id) -> String {
        let instance = bounded_name(&[instance_id], MAX_NAME);
        self.topic_of("command_member", &[&name(command), &instance])
    }

    /// Returns where the answers to the commands of an instance come.
    pub(crate) fn answers(&self, instance_id: &Id) -> [String; 2] {
        [MessageType::CommandSuccessResponse, MessageType::CommandErrorResponse].map(|answer| {
            let caller = PartyFilter::any().with_instance_id(instance_id);
            self.pattern(&Filter::message_type(answer).with_receiver(caller))
        })
    }

    /// Returns where instances of a subscriber hand messages over to others.
    pub(crate) fn hand_over(&self, subscriber: &ServiceAddress) -> String {
        self.topic_of("hand_over", &[&name(subscriber)])
    }

    /// Returns where a client sends something to itself.
    pub(crate) fn round_trip(&self, client_id: &str) -> String {
        self.topic_of("round_trip", &[client_id])
    }

    /// Returns whether a topic is one of those where clients send something to themselves.
    pub(crate) fn is_round_trip(&self, topic: &str) -> bool {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        topic
            .strip_prefix(&self.topic_of("round_trip", &[""]))
            .is_some_and(|client| (1..=MAX_NAME).contains(&client.len()) && client.bytes().all(is_of_name))
    }

    /// Returns where the copies of messages are kept that a subscriber has in hand.
    pub(crate) fn parked(&self, subscriber: &ServiceAddress, client_id: &str) -> String {
        self.topic_of("parked", &[&name(subscriber), client_id])
    }

    /// Returns what a client listens to for finding out what it may read.
    pub(crate) fn echoes(&self, client_id: &str) -> String {
        format!("{}/{}{client_id}", self.first, "+/".repeat(12))
    }

    /// Returns a topic that whoever may read the topics of a pattern may read as well. It has one level more than those of
    /// messages, so it matches nobody's filter for messages.
    pub(crate) fn echo(pattern: &str, client_id: &str) -> String {
        let level = |(position, level)| match (position, level) {
            (1, "+") => "custom_message",
            (_, "+") => "none",
            (_, level) => level,
        };
        let levels: Vec<_> = pattern.split('/').enumerate().map(level).collect();
        format!("{}/{client_id}", levels.join("/"))
    }

    /// Returns a topic that whoever may answer callers may write to.
    pub(crate) fn answer_echo(&self, client_id: &str) -> String {
        Self::echo(&self.pattern(&Filter::message_type(MessageType::CommandSuccessResponse)), client_id)
    }

    /// Returns the topics of a command.
    pub(crate) fn command_pattern(&self, command: &ServiceAddress) -> String {
        self.pattern(&Filter::message_type(MessageType::Command).with_receiver(command))
    }

    /// Returns where instances of a subscriber are asked whether they are there.
    pub(crate) fn presence(&self, subscriber: &ServiceAddress) -> String {
        self.topic_of("present", &[&name(subscriber)])
    }

    /// Returns whether a client id is one of a subscriber, whatever its instance.
    pub(crate) fn is_subscriber_client(&self, subscriber: &ServiceAddress, client_id: &str) -> bool {
        let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
        let own = bounded_name(&[&self.prefix, service_name, service_version, service_target], MAX_NAME);
        client_id.strip_prefix(&own).is_some_and(|instance| instance.starts_with('-'))
    }

    /// Returns where it is kept what the session of a subscriber listens to.
    pub(crate) fn session(&self, subscriber: &ServiceAddress, client_id: &str) -> String {
        self.topic_of("session", &[&name(subscriber), client_id])
    }

    /// Returns where it is kept what the sessions of a subscriber listen to, or all sessions.
    pub(crate) fn sessions(&self, subscriber: Option<&ServiceAddress>) -> String {
        let subscriber = subscriber.map(name);
        self.topic_of("session", &[subscriber.as_deref().unwrap_or("+"), "+"])
    }

    /// Returns where a dead letter is kept.
    pub(crate) fn dead_letter(&self, subscriber: &ServiceAddress, message_id: &Id) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
        let [service, version, target] =
            [service_name, service_version, service_target].map(|name| self.style.token(Some(name)));
        let message = bounded_name(&[message_id], MAX_NAME);
        self.topic_of("dead_letter", &[&service, &version, &target, &message])
    }

    /// Returns the client id of an instance.
    pub(crate) fn client(&self, instance_id: &Id) -> String {
        bounded_name(&[&self.prefix, instance_id], MAX_NAME)
    }

    /// Returns the client id of a subscriber at an instance.
    pub(crate) fn subscriber_client(&self, subscriber: &ServiceAddress, instance_id: &Id) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
        bounded_name(&[&self.prefix, service_name, service_version, service_target, instance_id], MAX_NAME)
    }

    /// It has fewer levels than a message's topic, so nobody's filter for messages matches it.
    fn topic_of(&self, what: &str, rest: &[&str]) -> String {
        format!("{}/{what}/{}", self.first, rest.join("/"))
    }
}

/// Returns the name of a command or subscriber, for what its instances share.
fn name(address: &ServiceAddress) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = address;
    bounded_name(&[service_name, service_version, service_target], MAX_NAME)
}

#[cfg(test)]
mod tests {
    use purista_core::{EventDraft, Receiver};

    use super::*;

    fn names() -> Names {
        Names::new("purista", &Shares::default()).unwrap()
    }

    #[test]
    fn topics_are_those_of_the_original() {
        let event = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::from("web"));
        assert_eq!(
            names().topic(&event),
            "purista/custom_message/none/none/web/user/1/sign_up/user_registered/none/none/none/none"
        );
        assert_eq!(
            names().command(&ServiceAddress::new("User", "1", "signUp"))[0],
            "$share/sharedpurista/purista/command/+/+/+/+/+/+/+/+/user/1/sign_up"
        );
        assert_eq!(
            names().answers(&Id::from("web"))[1],
            "purista/command_error_response/+/+/+/+/+/+/+/web/+/+/+"
        );
    }

    #[test]
    fn hostile_names_stay_within_their_level() {
        for text in ["+", "#", "/", "..", "a/b", "$share", "\0", " ", "\u{65e5}\u{672c}", &"x".repeat(255)] {
            let address = ServiceAddress::new(text, text, text);
            let event = EventDraft::event(&address, text)
                .with_receiver(Receiver::new(&address).with_instance_id(text))
                .with_principal_id(text)
                .with_tenant_id(text)
                .stamp(&Id::from(text));
            let topic = names().topic(&event);
            assert_eq!(topic.split('/').count(), 13, "{topic}");
            assert!(!topic.contains(['+', '#', '$', '\0', ' ']), "{topic}");
            let other = [
                names().dead_letter(&address, &Id::from(text)),
                names().hand_over(&address),
                names().command_member(&address, &Id::from(text)),
                names().subscriber_client(&address, &Id::from(text)),
            ];
            for name in other {
                assert!(!name.contains(['+', '#', '$', '\0', ' ']) && name.split('/').count() < 13, "{name}");
            }
        }
    }

    #[test]
    fn subscribers_never_share_a_name() {
        let address = |name: &str, version: &str, target: &str| ServiceAddress::new(name, version, target);
        let distinct = [
            name(&address("a-b", "1", "on")),
            name(&address("a", "b-1", "on")),
            name(&address("A", "b-1", "on")),
            name(&address("a", "b", "on-1")),
        ];
        let set: std::collections::HashSet<_> = distinct.iter().collect();
        assert_eq!(set.len(), distinct.len(), "{distinct:?}");
        let (one, other) = (address("a", "1", "on"), address("a", "1", "on2"));
        let client = names().subscriber_client(&one, &Id::from("x"));
        assert!(
            names().is_subscriber_client(&one, &client) && !names().is_subscriber_client(&other, &client)
        );
        assert!(names().is_round_trip(&names().round_trip("x")));
        for other in ["a/b", "#", "+", "a#", "", "\0", "a b", &"x".repeat(300)] {
            assert!(!names().is_round_trip(&format!("purista/round_trip/{other}")), "{other:?}");
        }
    }
}
