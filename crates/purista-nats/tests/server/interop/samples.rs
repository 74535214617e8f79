//! What the original puts on the wire: our own messages in the shapes that were seen, with the subjects that were seen.

use std::collections::BTreeMap;

use purista_core::{CommandDraft, EventDraft, Filter, Message, ServiceAddress};
use purista_integration_tests::samples;
use serde::Deserialize;
use serde_json::Value;

/// The instance whose answers were seen.
pub(crate) const SERVICE: &str = "5e2f1c0a9b8d7e6f5a4b3c2d1e0f9a8b";

/// The instance whose commands were seen.
pub(crate) const CALLER: &str = "ca11e4ca11e4ca11e4ca11e4ca11e400";

/// A command of the original, and the original's answer to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) case: String,
    pub(crate) subject: String,
    pub(crate) command: Value,
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// An event or info message of the original.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) case: String,
    pub(crate) subject: String,
    /// None, if it was derived by a subscription.
    pub(crate) headers: Option<BTreeMap<String, String>>,
    pub(crate) body: Value,
}

/// What an instance of the original listens to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listener {
    pub(crate) case: String,
    pub(crate) pattern: String,
    pub(crate) queue: Option<String>,
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

pub(crate) fn listeners() -> Vec<Listener> {
    samples::read(include_str!("../../samples/listeners.jsonl")).unwrap()
}

pub(crate) fn listener(case: &str) -> Listener {
    listeners().into_iter().find(|listener| listener.case == case).unwrap()
}

impl Call {
    /// The address of the command.
    pub(crate) fn address(&self) -> ServiceAddress {
        samples::address(&self.command["receiver"]).unwrap()
    }

    /// What a caller of ours says to send the same command.
    pub(crate) fn draft(&self) -> CommandDraft {
        samples::command_draft(&self.command).unwrap()
    }

    /// The answer of the original.
    pub(crate) fn answer(&self) -> &Answer {
        self.answer.as_ref().unwrap()
    }
}

impl Event {
    /// The instance that sent it.
    pub(crate) fn instance_id(&self) -> &str {
        self.body["sender"]["instanceId"].as_str().unwrap()
    }

    /// What a service of ours says to send the same message.
    pub(crate) fn draft(&self) -> EventDraft {
        samples::event_draft(&self.body).unwrap()
    }

    /// The message as we read it.
    pub(crate) fn message(&self) -> Message {
        samples::message(&self.body).unwrap()
    }

    /// The filter that names all that this message has.
    pub(crate) fn narrowest_filter(&self) -> Filter {
        samples::narrowest_filter(&self.message())
    }
}
