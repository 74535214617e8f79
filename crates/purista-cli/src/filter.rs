//! Which messages are watched: the twelve fields of a filter, each an option.

use std::fmt;

use clap::{
    Args,
    builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser as _},
};
use purista::{Filter, MessageType, PartyFilter};

/// A message must match every option that is given.
#[derive(Args, Debug)]
#[command(next_help_heading = "Filter")]
pub(crate) struct FilterArguments {
    /// The type of the message
    #[arg(long = "type", value_name = "TYPE", value_parser = message_types().try_map(message_type))]
    message_type: Option<MessageType>,

    /// The event that it announces
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    event: Option<String>,

    /// The tenant that it belongs to
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,

    /// The principal on whose behalf it was sent
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    principal: Option<String>,

    /// The service that sent it
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    sender_service: Option<String>,

    /// The version of the service that sent it
    #[arg(long, value_name = "VERSION", value_parser = NonEmptyStringValueParser::new())]
    sender_version: Option<String>,

    /// The command or subscription that sent it
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    sender_target: Option<String>,

    /// The instance that sent it
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    sender_instance: Option<String>,

    /// The service that it is for
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    receiver_service: Option<String>,

    /// The version of the service that it is for
    #[arg(long, value_name = "VERSION", value_parser = NonEmptyStringValueParser::new())]
    receiver_version: Option<String>,

    /// The command that it is for
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    receiver_target: Option<String>,

    /// The instance that it is for
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    receiver_instance: Option<String>,
}

fn message_types() -> PossibleValuesParser {
    PossibleValuesParser::new(MessageType::ALL.iter().map(|message_type| message_type.as_str()))
}

fn message_type(name: String) -> Result<MessageType, String> {
    MessageType::ALL.iter().copied().find(|message_type| message_type.as_str() == name).ok_or(name)
}

impl FilterArguments {
    pub(crate) fn filter(&self) -> Filter {
        let mut filter = Filter::any();
        filter.message_type = self.message_type;
        let name = |text: &Option<String>| text.as_deref().map(Into::into);
        filter.event_name = name(&self.event);
        filter.tenant_id = name(&self.tenant);
        filter.principal_id = name(&self.principal);
        let party = |service, version, target, instance: &Option<String>| {
            let mut party = PartyFilter::any();
            party.service_name = name(service);
            party.service_version = name(version);
            party.service_target = name(target);
            party.instance_id = instance.as_deref().map(Into::into);
            party
        };
        filter.sender =
            party(&self.sender_service, &self.sender_version, &self.sender_target, &self.sender_instance);
        filter.receiver = party(
            &self.receiver_service,
            &self.receiver_version,
            &self.receiver_target,
            &self.receiver_instance,
        );
        filter
    }

    /// Returns whether commands can match, which announce no event.
    pub(crate) fn may_be_command(&self) -> bool {
        matches!(self.message_type, None | Some(MessageType::Command)) && self.event.is_none()
    }
}

/// As in: `event userRegistered, tenant acme`.
impl fmt::Display for FilterArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message_type = self.message_type.map(|message_type| message_type.as_str().to_owned());
        let fields = [
            ("type", &message_type),
            ("event", &self.event),
            ("tenant", &self.tenant),
            ("principal", &self.principal),
            ("sender service", &self.sender_service),
            ("sender version", &self.sender_version),
            ("sender target", &self.sender_target),
            ("sender instance", &self.sender_instance),
            ("receiver service", &self.receiver_service),
            ("receiver version", &self.receiver_version),
            ("receiver target", &self.receiver_target),
            ("receiver instance", &self.receiver_instance),
        ];
        let given: Vec<_> = fields
            .iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}")))
            .collect();
        if given.is_empty() { f.write_str("every message") } else { f.write_str(&given.join(", ")) }
    }
}
