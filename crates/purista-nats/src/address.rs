//! Subjects, and the names of groups, streams and consumers.

use purista_core::{
    Filter, Id, Message, MessageType, Result, ServiceAddress,
    routing::{AddressStyle, bounded_name},
};

/// No token is so long that a subject could exceed the 4,096 bytes that the server reads of a line by default.
const STYLE: AddressStyle = AddressStyle::new('.', '*', "empty", ">$").with_max_token_len(255);

/// The longest name of a stream, consumer or group that the server takes is 255 bytes.
const MAX_NAME: usize = 200;

/// The longest name of a queue group: with the pattern of a command, it has to fit into one line.
const MAX_GROUP: usize = 1_024;

/// The subjects and names of one system.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    style: AddressStyle,
}

impl Names {
    /// `empty_part` stands for what is absent, if not the original's default does.
    pub(crate) fn new(prefix: &str, empty_part: Option<&str>) -> Result<Self> {
        let names = Self::standard(prefix);
        match empty_part {
            Some(marker) => Ok(Self { style: names.style.with_empty_marker(marker)?, ..names }),
            None => Ok(names),
        }
    }

    /// Names with the original's default for what is absent.
    pub(crate) fn standard(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), style: STYLE }
    }

    /// Returns where a message goes.
    pub(crate) fn subject(&self, message: &Message) -> String {
        message.routing_address(&self.prefix, &self.style)
    }

    /// Returns what a subscription listens to: the subjects of all messages that match, and maybe of others.
    pub(crate) fn pattern(&self, filter: &Filter) -> String {
        filter.routing_pattern(&self.prefix, &self.style)
    }

    /// Returns what a command listens to.
    pub(crate) fn command_pattern(&self, command: &ServiceAddress) -> String {
        self.pattern(&Filter::message_type(MessageType::Command).with_receiver(command))
    }

    /// Returns where a command is given back to the queue group of its instances. What else a subject tells is left out, so
    /// that few others listen to it.
    pub(crate) fn given_back(&self, command: &ServiceAddress) -> String {
        self.command_pattern(command).replace('*', "given_back")
    }

    /// Returns where streams are opened at a command.
    pub(crate) fn stream_pattern(&self, command: &ServiceAddress) -> String {
        self.pattern(&Filter::message_type(MessageType::Stream).with_receiver(command))
    }

    /// Returns the subjects of all messages of a type.
    pub(crate) fn all_of_type(&self, message_type: MessageType) -> String {
        let pattern = self.pattern(&Filter::message_type(message_type));
        let head: Vec<_> = pattern.splitn(3, '.').take(2).collect();
        format!("{}.>", head.join("."))
    }

    /// Returns where what concerns one consumer goes, such as hand-overs. It has fewer tokens than a message's subject.
    pub(crate) fn of_consumer(&self, what: &str, consumer: &str) -> String {
        format!("{}.{what}.{consumer}", self.prefix_token())
    }

    /// Returns all subjects that [`of_consumer`](Self::of_consumer) makes.
    pub(crate) fn of_any_consumer(&self, what: &str) -> String {
        format!("{}.{what}.>", self.prefix_token())
    }

    /// Returns where one instance of a command hands over to another. It is exact, unlike the subject of the command.
    pub(crate) fn command_members(&self, command: &ServiceAddress) -> String {
        self.of_consumer("command_member", &consumer_name(command, None))
    }

    /// Returns where commands for one certain instance go that came to another one.
    pub(crate) fn command_member(&self, command: &ServiceAddress, instance_id: &Id) -> String {
        let instance = bounded_name(&[instance_id], MAX_NAME);
        format!("{}.{instance}", self.command_members(command))
    }

    /// Returns where a dead letter of a subscriber goes.
    pub(crate) fn dead_letter(&self, subscriber: &ServiceAddress) -> String {
        let token = |value: &str| self.style.token(Some(value));
        let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
        let tokens = [service_name, service_version, service_target].map(|name| token(name));
        self.of_consumer("dead_letter", &tokens.join("."))
    }

    /// Returns the name of a stream.
    pub(crate) fn stream(&self, what: &str) -> String {
        format!("{}-{what}", bounded_name(&[&self.prefix], MAX_NAME))
    }

    /// Returns the queue group of a command or subscriber: that of the TypeScript original where a group can have that name,
    /// so that instances of both share it (wire format, section 5).
    pub(crate) fn queue_group(&self, address: &ServiceAddress) -> String {
        let ServiceAddress { service_name, service_version, service_target, .. } = address;
        let prefix = &self.prefix;
        let original = format!("{prefix}_queue_{service_name}_{service_version}_{service_target}");
        let original = original.to_uppercase();
        let ends_it = |letter: char| letter.is_whitespace() || letter.is_control();
        if original.len() <= MAX_GROUP && !original.contains(ends_it) {
            return original;
        }
        let prefix = bounded_name(&[prefix], MAX_NAME).to_uppercase();
        format!("{prefix}_QUEUE_{}", consumer_name(address, None))
    }

    fn prefix_token(&self) -> String {
        let pattern = self.pattern(&Filter::any());
        pattern.split('.').next().unwrap_or_default().to_owned()
    }
}

/// Returns the name of the consumer that the instances of a subscriber share, or of one instance's own.
pub(crate) fn consumer_name(subscriber: &ServiceAddress, instance_id: Option<&str>) -> String {
    let ServiceAddress { service_name, service_version, service_target, .. } = subscriber;
    let mut parts: Vec<&str> = vec![service_name, service_version, service_target];
    parts.extend(instance_id);
    bounded_name(&parts, MAX_NAME)
}

/// Returns the last three tokens of the subjects that commands for an address have.
pub(crate) fn command_suffix(names: &Names, command: &ServiceAddress) -> String {
    let pattern = names.command_pattern(command);
    let tokens: Vec<_> = pattern.rsplitn(4, '.').take(3).collect();
    tokens.into_iter().rev().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use purista_core::EventDraft;

    use super::*;

    fn names() -> Names {
        Names::new("purista", None).unwrap()
    }

    #[test]
    fn subjects_are_those_of_the_original() {
        let event = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::from("web"));
        assert_eq!(
            names().subject(&event),
            "purista.custom_message.empty.empty.web.user.1.sign_up.user_registered.empty.empty.empty.empty"
        );
        let command = ServiceAddress::new("User", "1", "signUp");
        assert_eq!(names().command_pattern(&command), "purista.command.*.*.*.*.*.*.*.*.user.1.sign_up");
        assert_eq!(command_suffix(&names(), &command), "user.1.sign_up");
        assert_eq!(
            names().all_of_type(MessageType::CommandErrorResponse),
            "purista.command_error_response.>"
        );
    }

    #[test]
    fn queue_groups_are_those_of_the_original_or_harmless() {
        let group = |name: &str| names().queue_group(&ServiceAddress::new(name, "1", "signUp"));
        assert_eq!(group("User"), "PURISTA_QUEUE_USER_1_SIGNUP");
        assert_eq!(group("a-b.c"), "PURISTA_QUEUE_A-B.C_1_SIGNUP");
        assert_eq!(group("Straße"), "PURISTA_QUEUE_STRASSE_1_SIGNUP");
        assert_eq!(group("\u{65e5}\u{672c}"), "PURISTA_QUEUE_\u{65e5}\u{672c}_1_SIGNUP");
        let acme =
            Names::new("acme-eu", None).unwrap().queue_group(&ServiceAddress::new("User", "1", "signUp"));
        assert_eq!(acme, "ACME-EU_QUEUE_USER_1_SIGNUP");
        for hostile in ["a b", "a\r\nSUB > 1", "\0", "\u{85}", "\u{2028}", &"x".repeat(2_000)] {
            let group = group(hostile);
            assert!(group.bytes().all(|byte| byte.is_ascii_graphic()), "{group}");
            assert!(group.len() <= MAX_GROUP, "{group}");
        }
    }

    #[test]
    fn subjects_and_names_stay_within_the_limits_of_the_server() {
        for text in ["A".repeat(255), "*".repeat(255), "\u{65e5}".repeat(85), " >".repeat(127)] {
            let address = ServiceAddress::new(text.as_str(), text.as_str(), text.as_str());
            let event = EventDraft::event(&address, text.as_str())
                .with_receiver(purista_core::Receiver::new(&address).with_instance_id(text.as_str()))
                .with_principal_id(text.as_str())
                .with_tenant_id(text.as_str())
                .stamp(&Id::from(text.as_str()));
            let subject = names().subject(&event);
            assert!(subject.len() < 3_400, "{} bytes", subject.len());
            assert_eq!(subject.split('.').count(), 13);
            assert!(names().dead_letter(&address).len() < 1_024);
            let name = consumer_name(&address, Some(&text));
            assert!(
                name.len() <= 200
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
        }
    }

    #[test]
    fn consumers_never_share_a_name() {
        let address = |name: &str, version: &str| ServiceAddress::new(name, version, "on");
        let distinct = [
            consumer_name(&address("a-b", "1"), None),
            consumer_name(&address("a", "b-1"), None),
            consumer_name(&address("A", "b-1"), None),
            consumer_name(&address("a", "b"), Some("1")),
            consumer_name(&ServiceAddress::new("a", "b", "on-1"), None),
        ];
        let set: std::collections::HashSet<_> = distinct.iter().collect();
        assert_eq!(set.len(), distinct.len(), "{distinct:?}");
    }
}
