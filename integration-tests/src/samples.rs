//! Messages of the original as they stand in samples: as text of JSON, read without our own decoder.

use anyhow::Context as _;
use purista_core::{
    CommandDraft, EventDraft, Filter, Message, MessageType, Payload, Receiver, ServiceAddress, TraceContext,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads samples, one in each line.
///
/// # Errors
///
/// If a line is none.
pub fn read<T: DeserializeOwned>(lines: &str) -> anyhow::Result<Vec<T>> {
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Returns the address of a party of a message.
///
/// # Errors
///
/// If a part of it is missing.
pub fn address(party: &Value) -> anyhow::Result<ServiceAddress> {
    let part = |key: &str| party[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    Ok(ServiceAddress::new(part("serviceName")?, part("serviceVersion")?, part("serviceTarget")?))
}

fn receiver(message: &Value) -> anyhow::Result<Option<Receiver>> {
    let Some(party) = message.get("receiver") else { return Ok(None) };
    let receiver = Receiver::new(address(party)?);
    Ok(Some(match party["instanceId"].as_str() {
        Some(instance_id) => receiver.with_instance_id(instance_id),
        None => receiver,
    }))
}

fn payload(value: &Value) -> anyhow::Result<Option<Payload>> {
    let is_there = !value.is_null();
    is_there.then(|| Payload::from_json_text(value.to_string())).transpose().map_err(Into::into)
}

macro_rules! with_header {
    ($draft:expr, $message:expr) => {{
        let (mut draft, message) = ($draft, $message);
        if let Some(event_name) = message["eventName"].as_str() {
            draft = draft.with_event_name(event_name);
        }
        if let Some(principal_id) = message["principalId"].as_str() {
            draft = draft.with_principal_id(principal_id);
        }
        if let Some(tenant_id) = message["tenantId"].as_str() {
            draft = draft.with_tenant_id(tenant_id);
        }
        if let Some(trace_id) = message["traceId"].as_str() {
            draft = draft.with_trace_id(trace_id);
        }
        draft.with_trace_context(TraceContext::from_otp(message["otp"].as_str().context("no otp")?))
    }};
}

/// Returns what a caller of ours says to send the same command.
///
/// # Errors
///
/// If it is no command.
pub fn command_draft(command: &Value) -> anyhow::Result<CommandDraft> {
    let receiver = receiver(command)?.context("no receiver")?;
    let mut draft = with_header!(CommandDraft::new(address(&command["sender"])?, receiver), command);
    if let Some(payload) = payload(&command["payload"]["payload"])? {
        draft = draft.with_payload(payload);
    }
    if let Some(parameter) = payload(&command["payload"]["parameter"])? {
        draft = draft.with_parameter(parameter);
    }
    Ok(draft)
}

/// Returns what a service of ours says to send the same event or info message.
///
/// # Errors
///
/// If it is neither.
pub fn event_draft(event: &Value) -> anyhow::Result<EventDraft> {
    let sender = address(&event["sender"])?;
    let draft = match message(event)?.message_type() {
        MessageType::CustomMessage => EventDraft::custom(sender),
        info => EventDraft::info(sender, info).context("neither event nor info")?,
    };
    let mut draft = with_header!(draft, event);
    if let Some(receiver) = receiver(event)? {
        draft = draft.with_receiver(receiver);
    }
    Ok(draft.with_payload(payload(&event["payload"])?.context("no payload")?))
}

/// Returns a message as we read it.
///
/// # Errors
///
/// If it is none.
pub fn message(body: &Value) -> anyhow::Result<Message> {
    Ok(Message::decode(body.to_string())?)
}

/// Returns the filter that names all that a message has.
#[must_use]
pub fn narrowest_filter(message: &Message) -> Filter {
    let mut filter = Filter::message_type(message.message_type());
    filter.event_name.clone_from(&message.event_name);
    filter.principal_id.clone_from(&message.principal_id);
    filter.tenant_id.clone_from(&message.tenant_id);
    filter.sender = (&message.sender.address).into();
    filter.sender.instance_id = Some(message.sender.instance_id.clone());
    if let Some(receiver) = &message.receiver {
        filter.receiver = (&receiver.address).into();
        filter.receiver.instance_id.clone_from(&receiver.instance_id);
    }
    filter
}
