//! What the original puts on the wire: our own messages in the shapes that were seen, with the topics and properties that
//! were seen.

use purista_core::{CommandDraft, EventDraft, Filter, Message, ServiceAddress};
use purista_integration_tests::samples;
use serde::Deserialize;
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

pub(crate) fn calls() -> Vec<Call> {
    samples::read(include_str!("../../samples/calls.jsonl")).unwrap()
}

pub(crate) fn call(case: &str) -> Call {
    calls().into_iter().find(|call| call.case == case).unwrap()
}

pub(crate) fn events() -> Vec<Event> {
    samples::read(include_str!("../../samples/events.jsonl")).unwrap()
}

pub(crate) fn event(case: &str) -> Event {
    events().into_iter().find(|event| event.case == case).unwrap()
}

impl Call {
    /// The address of the command.
    pub(crate) fn address(&self) -> ServiceAddress {
        samples::address(&self.command.body["receiver"]).unwrap()
    }

    /// What a caller of ours says to send the same command.
    pub(crate) fn draft(&self) -> CommandDraft {
        samples::command_draft(&self.command.body).unwrap()
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
        samples::event_draft(&self.frame.body).unwrap()
    }

    /// The message as we read it.
    pub(crate) fn message(&self) -> Message {
        samples::message(&self.frame.body).unwrap()
    }

    /// The filter that names all that this message has.
    pub(crate) fn narrowest_filter(&self) -> Filter {
        samples::narrowest_filter(&self.message())
    }
}
