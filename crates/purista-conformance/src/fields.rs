//! The twelve fields of a message that a filter can ask for, one by one.

use anyhow::{Result, ensure};
use purista_core::{
    CommandDraft, EventDraft, Filter, Message, MessageType, Name, PartyFilter, Receiver, ServiceAddress,
};

use crate::stage::Stage;

/// One of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    MessageType,
    EventName,
    PrincipalId,
    TenantId,
    Sender(Part),
    Receiver(Part),
}

/// A field of sender or receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    ServiceName,
    ServiceVersion,
    ServiceTarget,
    InstanceId,
}

/// The fields that whoever sends can give any text to.
pub(crate) const CHOSEN: [Field; 10] = [
    Field::EventName,
    Field::PrincipalId,
    Field::TenantId,
    Field::Sender(Part::ServiceName),
    Field::Sender(Part::ServiceVersion),
    Field::Sender(Part::ServiceTarget),
    Field::Receiver(Part::ServiceName),
    Field::Receiver(Part::ServiceVersion),
    Field::Receiver(Part::ServiceTarget),
    Field::Receiver(Part::InstanceId),
];

/// Returns all fields.
pub(crate) fn all() -> impl Iterator<Item = Field> {
    CHOSEN.into_iter().chain([Field::MessageType, Field::Sender(Part::InstanceId)])
}

impl Field {
    /// Returns the value that a filter asks for.
    pub(crate) fn get(self, filter: &Filter) -> Option<String> {
        let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string);
        match self {
            Self::MessageType => filter.message_type.map(|kind| kind.to_string()),
            Self::EventName => text(&filter.event_name),
            Self::PrincipalId => text(&filter.principal_id),
            Self::TenantId => text(&filter.tenant_id),
            Self::Sender(part) => part.get(&filter.sender),
            Self::Receiver(part) => part.get(&filter.receiver),
        }
    }

    /// Makes a filter ask for a value, or for none.
    pub(crate) fn set(self, filter: &mut Filter, value: Option<&str>) {
        match self {
            Self::MessageType => {
                let kinds = MessageType::ALL.iter().copied();
                filter.message_type =
                    value.and_then(|value| kinds.into_iter().find(|kind| kind.as_str() == value));
            }
            Self::EventName => filter.event_name = value.map(Name::from),
            Self::PrincipalId => filter.principal_id = value.map(Name::from),
            Self::TenantId => filter.tenant_id = value.map(Name::from),
            Self::Sender(part) => part.set(&mut filter.sender, value),
            Self::Receiver(part) => part.set(&mut filter.receiver, value),
        }
    }

    /// Returns the filter with this value.
    pub(crate) fn with(self, mut filter: Filter, value: &str) -> Filter {
        self.set(&mut filter, Some(value));
        filter
    }
}

impl Part {
    fn get(self, party: &PartyFilter) -> Option<String> {
        match self {
            Self::ServiceName => party.service_name.as_ref().map(ToString::to_string),
            Self::ServiceVersion => party.service_version.as_ref().map(ToString::to_string),
            Self::ServiceTarget => party.service_target.as_ref().map(ToString::to_string),
            Self::InstanceId => party.instance_id.as_ref().map(ToString::to_string),
        }
    }

    fn set(self, party: &mut PartyFilter, value: Option<&str>) {
        match self {
            Self::ServiceName => party.service_name = value.map(Into::into),
            Self::ServiceVersion => party.service_version = value.map(Into::into),
            Self::ServiceTarget => party.service_target = value.map(Into::into),
            Self::InstanceId => party.instance_id = value.map(Into::into),
        }
    }
}

/// Makes a value for each of the [`CHOSEN`] fields that only this trial of this run has, and no other `name`.
pub(crate) fn identity(stage: &Stage, name: &str) -> Filter {
    let unset = Filter::any();
    CHOSEN
        .into_iter()
        .enumerate()
        .fold(unset, |filter, (number, field)| field.with(filter, &stage.unique(&format!("{name}{number}x"))))
}

/// Makes the filter that asks for exactly what a message has.
pub(crate) fn exact(message: &Message) -> Filter {
    let party = |address: &ServiceAddress| PartyFilter::from(address);
    let mut filter = Filter::message_type(message.message_type())
        .with_sender(party(&message.sender.address).with_instance_id(&message.sender.instance_id));
    filter.event_name.clone_from(&message.event_name);
    filter.principal_id.clone_from(&message.principal_id);
    filter.tenant_id.clone_from(&message.tenant_id);
    if let Some(receiver) = &message.receiver {
        filter.receiver = party(&receiver.address);
        filter.receiver.instance_id.clone_from(&receiver.instance_id);
    }
    filter
}

/// Returns the address that the filter of a sender or receiver asks for.
pub(crate) fn address(party: &PartyFilter) -> ServiceAddress {
    let text = |name: &Option<Name>| name.clone().unwrap_or_else(|| Name::from_static("any"));
    ServiceAddress::new(text(&party.service_name), text(&party.service_version), text(&party.service_target))
}

fn receiver(filter: &Filter) -> Receiver {
    let mut receiver = Receiver::new(address(&filter.receiver));
    receiver.instance_id.clone_from(&filter.receiver.instance_id);
    receiver
}

/// Adds to a draft what a filter asks for beside sender and receiver.
macro_rules! with_names {
    ($draft:expr, $filter:expr) => {{
        let mut draft = $draft;
        if let Some(event_name) = &$filter.event_name {
            draft = draft.with_event_name(event_name);
        }
        if let Some(principal_id) = &$filter.principal_id {
            draft = draft.with_principal_id(principal_id);
        }
        if let Some(tenant_id) = &$filter.tenant_id {
            draft = draft.with_tenant_id(tenant_id);
        }
        draft
    }};
}

/// Drafts a message with the [`CHOSEN`] fields that a filter asks for: an event, or an `info…` message.
pub(crate) fn event(filter: &Filter) -> EventDraft {
    let sender = address(&filter.sender);
    let info = filter.message_type.and_then(|kind| EventDraft::info(sender.clone(), kind));
    let draft = info.unwrap_or_else(|| EventDraft::custom(sender));
    with_names!(draft.with_receiver(receiver(filter)), filter)
}

/// Drafts a command with the [`CHOSEN`] fields that a filter asks for.
pub(crate) fn command(filter: &Filter) -> CommandDraft {
    with_names!(CommandDraft::new(address(&filter.sender), receiver(filter)), filter)
}

/// Checks that all of a message is that of the draft but id, timestamp, and the correlation id of a command.
pub(crate) fn is_as_drafted(mut drafted: Message, came: &Message) -> Result<()> {
    (drafted.id, drafted.timestamp) = (came.id.clone(), came.timestamp);
    if came.message_type() == MessageType::Command {
        drafted.correlation_id = came.correlation_id.clone();
    }
    ensure!(drafted == *came, "drafted {drafted:?}, came {came:?}");
    Ok(())
}
