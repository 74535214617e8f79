//! What the original puts on the wire: our own messages in the shapes that were seen, with the topics and properties that
//! were seen.

use purista_core::{
    CommandDraft, EventDraft, Filter, Message, MessageType, Payload, Receiver, ServiceAddress, TraceContext,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The instance whose answers were seen.
pub(crate) const SERVICE: &str = "3d90c7f2a15b4e6897d2f0b1c8e4a760";

/// The instance whose commands were seen.
pub(crate) const CALLER: &str = "b27e41f09c3846d5a0e8d71f64c9250b";

/// A message as it is on the wire.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Frame {
    pub(crate) topic: String,
    pub(crate) properties: Value,
    pub(crate) body: Value,
}

/// A command of the original, and the original's answer to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) case: String,
    pub(crate) command: Frame,
    pub(crate) answer: Option<Frame>,
}

/// An event of the original.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) case: String,
    #[serde(flatten)]
    pub(crate) frame: Frame,
}

fn read<T: DeserializeOwned>(lines: &str) -> Vec<T> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn calls() -> Vec<Call> {
    read(include_str!("../../samples/calls.jsonl"))
}

pub(crate) fn call(case: &str) -> Call {
    calls().into_iter().find(|call| call.case == case).unwrap()
}

pub(crate) fn events() -> Vec<Event> {
    read(include_str!("../../samples/events.jsonl"))
}

pub(crate) fn event(case: &str) -> Event {
    events().into_iter().find(|event| event.case == case).unwrap()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn payload(value: &Value) -> Option<Payload> {
    (!value.is_null()).then(|| Payload::from_json_text(value.to_string()).unwrap())
}

fn address(party: &Value) -> ServiceAddress {
    let part = |key: &str| party[key].as_str().unwrap().to_owned();
    ServiceAddress::new(part("serviceName"), part("serviceVersion"), part("serviceTarget"))
}

fn receiver(message: &Value) -> Option<Receiver> {
    let party = message.get("receiver")?;
    let receiver = Receiver::new(address(party));
    Some(match text(&party["instanceId"]) {
        Some(instance_id) => receiver.with_instance_id(instance_id),
        None => receiver,
    })
}

macro_rules! with_header {
    ($draft:expr, $message:expr) => {{
        let (mut draft, message) = ($draft, $message);
        if let Some(event_name) = text(&message["eventName"]) {
            draft = draft.with_event_name(event_name);
        }
        if let Some(principal_id) = text(&message["principalId"]) {
            draft = draft.with_principal_id(principal_id);
        }
        if let Some(tenant_id) = text(&message["tenantId"]) {
            draft = draft.with_tenant_id(tenant_id);
        }
        if let Some(trace_id) = text(&message["traceId"]) {
            draft = draft.with_trace_id(trace_id);
        }
        draft.with_trace_context(TraceContext::from_otp(text(&message["otp"]).unwrap()))
    }};
}

impl Call {
    /// The address of the command.
    pub(crate) fn address(&self) -> ServiceAddress {
        address(&self.command.body["receiver"])
    }

    /// What a caller of ours says to send the same command.
    pub(crate) fn draft(&self) -> CommandDraft {
        let command = &self.command.body;
        let draft = CommandDraft::new(address(&command["sender"]), receiver(command).unwrap());
        let mut draft = with_header!(draft, command);
        if let Some(payload) = payload(&command["payload"]["payload"]) {
            draft = draft.with_payload(payload);
        }
        if let Some(parameter) = payload(&command["payload"]["parameter"]) {
            draft = draft.with_parameter(parameter);
        }
        draft
    }

    /// The answer of the original.
    pub(crate) fn answer(&self) -> &Frame {
        self.answer.as_ref().unwrap()
    }
}

impl Frame {
    /// The instance that sent it.
    pub(crate) fn instance_id(&self) -> &str {
        self.body["sender"]["instanceId"].as_str().unwrap()
    }
}

impl Event {
    /// What a service of ours says to send the same message.
    pub(crate) fn draft(&self) -> EventDraft {
        let body = &self.frame.body;
        let draft = match self.message().message_type() {
            MessageType::CustomMessage => EventDraft::custom(address(&body["sender"])),
            info => EventDraft::info(address(&body["sender"]), info).unwrap(),
        };
        let mut draft = with_header!(draft, body);
        if let Some(receiver) = receiver(body) {
            draft = draft.with_receiver(receiver);
        }
        draft.with_payload(payload(&body["payload"]).unwrap())
    }

    /// The message as we read it.
    pub(crate) fn message(&self) -> Message {
        Message::decode(self.frame.body.to_string()).unwrap()
    }

    /// The filter that names all that this message has.
    pub(crate) fn narrowest_filter(&self) -> Filter {
        let message = self.message();
        let mut filter = Filter::message_type(message.message_type());
        filter.event_name.clone_from(&message.event_name);
        filter.principal_id.clone_from(&message.principal_id);
        filter.tenant_id.clone_from(&message.tenant_id);
        filter.sender = (&message.sender.address).into();
        filter.sender.instance_id = Some(message.sender.instance_id);
        if let Some(receiver) = message.receiver {
            filter.receiver = (&receiver.address).into();
            filter.receiver.instance_id = receiver.instance_id;
        }
        filter
    }
}
