//! Names that are cheap to make from bytes, and messages and filters with them.

use arbitrary::{Arbitrary, Result, Unstructured};
use purista_core::{
    Body, CommandDraft, EventDraft, Filter, Id, Message, MessageType, PartyFilter, Receiver, ServiceAddress,
};

/// The longest name that an adapter takes by default.
const MAX_NAME: usize = 255;

const COMMON: [&str; 16] = [
    "User",
    "user",
    "a",
    "A",
    "a-b",
    "a_b",
    "1",
    "1.2",
    "none",
    "empty",
    "*",
    "#",
    "a.b/c",
    "\u{65e5}\u{672c}",
    "0af7651916cd43dd8448eb211c80319c",
    "0AF7651916CD43DD8448EB211C80319C",
];

/// Makes a name that an adapter takes: one that is common, or any text of 1 to 255 bytes.
///
/// # Errors
///
/// If there are too few bytes.
pub fn name(bytes: &mut Unstructured<'_>) -> Result<String> {
    let kind = u8::arbitrary(bytes)?;
    let mut name = match kind {
        0..=159 => COMMON[usize::from(kind) % COMMON.len()].to_owned(),
        160..=223 => <&str>::arbitrary(bytes)?.to_owned(),
        _ => {
            let (unit, times) = (char::arbitrary(bytes)?, u8::arbitrary(bytes)?);
            let more = <&str>::arbitrary(bytes)?;
            format!("{}{more}", unit.to_string().repeat(usize::from(times)))
        }
    };
    name.truncate(name.floor_char_boundary(MAX_NAME));
    if name.is_empty() {
        name.push('x');
    }
    Ok(name)
}

/// Makes the address of a command or subscriber.
///
/// # Errors
///
/// If there are too few bytes.
pub fn address(bytes: &mut Unstructured<'_>) -> Result<ServiceAddress> {
    Ok(ServiceAddress::new(name(bytes)?, name(bytes)?, name(bytes)?))
}

fn maybe<T>(
    bytes: &mut Unstructured<'_>,
    make: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if bool::arbitrary(bytes)? { make(bytes).map(Some) } else { Ok(None) }
}

/// Makes a message of any type.
///
/// # Errors
///
/// If there are too few bytes.
pub fn message(bytes: &mut Unstructured<'_>) -> Result<Message> {
    let message_type = *bytes.choose(MessageType::ALL)?;
    let (sender, to, instance) = (address(bytes)?, address(bytes)?, name(bytes)?);
    let receiver = maybe(bytes, name)?
        .map_or_else(|| Receiver::new(&to), |instance| Receiver::new(&to).with_instance_id(instance));
    let mut message = if message_type == MessageType::Command || message_type.is_response() {
        CommandDraft::new(sender, receiver).stamp(&Id::from(instance))
    } else {
        let mut draft = match EventDraft::info(&sender, message_type) {
            Some(draft) => draft,
            None => EventDraft::custom(&sender),
        };
        if bool::arbitrary(bytes)? {
            draft = draft.with_receiver(receiver);
        }
        draft.stamp(&Id::from(instance))
    };
    match message_type {
        MessageType::CommandSuccessResponse => message.body = Body::CommandSuccessResponse(None),
        MessageType::CommandErrorResponse => message = message.unavailable(&Id::from(name(bytes)?)),
        _ => {}
    }
    message.event_name = maybe(bytes, name)?.map(Into::into);
    message.principal_id = maybe(bytes, name)?.map(Into::into);
    message.tenant_id = maybe(bytes, name)?.map(Into::into);
    Ok(message)
}

/// Makes a filter that takes a message, unless it gets a value of its own here and there.
///
/// # Errors
///
/// If there are too few bytes.
pub fn filter(bytes: &mut Unstructured<'_>, message: &Message) -> Result<Filter> {
    let mut filter = Filter::any();
    if bool::arbitrary(bytes)? {
        filter.message_type = Some(message.message_type());
    }
    let mut same_or_other = |own: Option<String>| -> Result<Option<String>> {
        match u8::arbitrary(bytes)? {
            0..=127 => Ok(None),
            128..=239 => Ok(own),
            _ => name(bytes).map(Some),
        }
    };
    let text = |name: &purista_core::Name| name.to_string();
    filter.event_name = same_or_other(message.event_name.as_ref().map(text))?.map(Into::into);
    filter.principal_id = same_or_other(message.principal_id.as_ref().map(text))?.map(Into::into);
    filter.tenant_id = same_or_other(message.tenant_id.as_ref().map(text))?.map(Into::into);
    let receiver = message.receiver.as_ref();
    let sides = [
        (Some(&message.sender.address), Some(&message.sender.instance_id)),
        (
            receiver.map(|receiver| &receiver.address),
            receiver.and_then(|receiver| receiver.instance_id.as_ref()),
        ),
    ];
    let mut parties = [PartyFilter::any(), PartyFilter::any()];
    for (party, (address, instance)) in parties.iter_mut().zip(sides) {
        party.service_name = same_or_other(address.map(|it| text(&it.service_name)))?.map(Into::into);
        party.service_version = same_or_other(address.map(|it| text(&it.service_version)))?.map(Into::into);
        party.service_target = same_or_other(address.map(|it| text(&it.service_target)))?.map(Into::into);
        party.instance_id = same_or_other(instance.map(Id::to_string))?.map(Into::into);
    }
    [filter.sender, filter.receiver] = parties;
    Ok(filter)
}
