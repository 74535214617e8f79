//! What a wrong bridge does to messages and subscriptions before the right one gets them.

use std::time::Duration;

use purista_core::{
    Acknowledge, CommandDraft, EventDraft, Filter, Id, Name, PartyFilter, Payload, Result, RetryPolicy,
    ServiceAddress, Sharing, Subscription, TraceContext,
};

use super::Fault;

/// Spoils what is about to be emitted.
pub(super) fn event(fault: Fault, draft: EventDraft, instance: &Id) -> EventDraft {
    let message = draft.clone().stamp(instance);
    match (fault, message.payload(), &message.tenant_id) {
        (Fault::LosesTrace, ..) => draft.with_trace_context(TraceContext::EMPTY),
        (Fault::NormalisesNames, _, Some(tenant)) => draft.with_tenant_id(normalise(tenant)),
        (Fault::EscapesMarkers, ..) if message.event_name.as_deref() == Some("none") => {
            draft.with_event_name("escaped-none")
        }
        (Fault::RenamesEvents, ..) => match &message.event_name {
            Some(name) => draft.with_event_name(name.replace(|letter: char| !letter.is_ascii(), "")),
            None => draft,
        },
        (Fault::LosesDigits, Some(payload), _) => match as_floating_point(payload) {
            Some(payload) => draft.with_payload(payload),
            None => draft,
        },
        (Fault::RoundsNumbers, Some(payload), _) => match rounded(payload) {
            Ok(payload) => draft.with_payload(payload),
            Err(_) => draft,
        },
        (Fault::LosesNull, Some(payload), _) if payload.as_str() == "null" => {
            let bare = EventDraft::custom(&message.sender.address);
            match &message.event_name {
                Some(event_name) => bare.with_event_name(event_name),
                None => bare,
            }
        }
        _ => draft,
    }
}

/// Spoils what is about to be invoked.
pub(super) fn command(fault: Fault, draft: CommandDraft, instance: &Id) -> CommandDraft {
    let message = draft.clone().stamp(instance);
    let Some(mut receiver) = message.receiver.clone() else { return draft };
    let mut parameter = message.parameter().cloned();
    match fault {
        Fault::AsksAnybody => receiver.instance_id = None,
        _ => parameter = parameter.filter(|parameter| parameter.as_str() != "{}"),
    }
    let mut spoiled = CommandDraft::new(&message.sender.address, receiver).caused_by(&message);
    if let Some(payload) = message.payload() {
        spoiled = spoiled.with_payload(payload.clone());
    }
    match parameter {
        Some(parameter) => spoiled.with_parameter(parameter),
        None => spoiled,
    }
}

fn filter(fault: Fault, mut filter: Filter) -> Filter {
    match fault {
        Fault::IgnoresTenant => filter.tenant_id = None,
        Fault::IgnoresReceiver => filter.receiver = PartyFilter::any(),
        Fault::NormalisesNames => filter.tenant_id = filter.tenant_id.as_ref().map(normalise),
        Fault::AcceptsEmptyFilters => {
            let given = |name: &Name| !name.is_empty();
            filter.event_name = filter.event_name.filter(given);
            filter.tenant_id = filter.tenant_id.filter(given);
            filter.principal_id = filter.principal_id.filter(given);
            for party in [&mut filter.sender, &mut filter.receiver] {
                party.service_name = party.service_name.take().filter(given);
                party.service_version = party.service_version.take().filter(given);
                party.service_target = party.service_target.take().filter(given);
                party.instance_id = party.instance_id.take().filter(|id| !id.is_empty());
            }
        }
        _ => {}
    }
    filter
}

/// Spoils what is about to be registered.
pub(super) fn subscription(fault: Fault, mut subscription: Subscription) -> Subscription {
    subscription.filter = filter(fault, subscription.filter);
    let options = &mut subscription.options;
    match fault {
        Fault::BroadcastsShared => options.sharing = Some(Sharing::Broadcast),
        Fault::SharesBroadcast => options.sharing = Some(Sharing::Shared),
        Fault::ClaimsDurable => options.durable = None,
        Fault::DropsDeadLetters => options.dead_letter = Some(false),
        Fault::AcknowledgesTooEarly => options.acknowledge = Some(Acknowledge::OnReceive),
        Fault::IgnoresConcurrency => options.max_concurrency = options.max_concurrency.map(|limit| 2 * limit),
        Fault::RetriesWithoutEnd => {
            options.retry = options.retry.map(|retry| retry.with_max_attempts(retry.max_attempts + 1));
        }
        Fault::RetriesAtOnce => {
            options.retry = options.retry.map(|retry| RetryPolicy::with_initial_delay(retry, Duration::ZERO));
        }
        Fault::SharesAmongSubscribers => {
            subscription.subscriber = ServiceAddress::new("everybody", "1", "same");
        }
        _ => {}
    }
    subscription
}

fn normalise(name: &Name) -> Name {
    name.to_lowercase().replace('-', "_").into()
}

fn as_floating_point(payload: &Payload) -> Option<Payload> {
    let value: serde_json::Value = payload.deserialize().ok()?;
    Payload::json(&value).ok()
}

/// Writes floating-point numbers with one digit less than it takes.
fn rounded(payload: &Payload) -> Result<Payload> {
    let is_part = |part: char| part.is_ascii_digit() || "+-.eE".contains(part);
    let (mut json, mut rest) = (String::new(), payload.as_str());
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|part| !is_part(part)).unwrap_or(rest.len()));
        let digits = number.parse::<f64>().map(|double| format!("{double:.16e}")).unwrap_or_default();
        match digits.split_once('e') {
            Some((digits, exponent)) if number.contains('.') => {
                json.push_str(&digits[..digits.len() - 1]);
                json.push('e');
                json.push_str(exponent);
            }
            _ => json.push_str(number),
        }
        let text = after.find(is_part).unwrap_or(after.len());
        json.push_str(&after[..text]);
        rest = &after[text..];
    }
    Payload::from_json_text(json)
}
