//! What the original puts on the wire: our own messages in the shapes that were seen, with the properties that were
//! seen.

use purista_core::{CommandDraft, EventDraft, Filter, Message, ServiceAddress};
use purista_integration_tests::samples;
use serde::Deserialize;
use serde_json::Value;

/// The instance whose answers were seen.
pub(crate) const SERVICE: &str = "5e2f1c0a9b8d7e6f5a4b3c2d1e0f9a8b";

/// The instance whose commands were seen.
pub(crate) const CALLER: &str = "ca11e4ca11e4ca11e4ca11e4ca11e400";

/// A message as it is on the wire. Exchange and routing key are the same for all.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Frame {
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
