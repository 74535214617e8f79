use anyhow::Context as _;
use purista_core::{CommandDraft, ServiceAddress, routing::case::snake};
use serde::Deserialize;
use serde_json::Value;

use crate::samples;

/// A message as it is on the wire.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Frame {
    /// The message, as JSON.
    pub body: Value,
    /// What stands outside of it, as the samples of this wire write it: its route, headers, properties.
    #[serde(flatten)]
    pub outside: Value,
}

impl Frame {
    /// Puts both together.
    #[must_use]
    pub const fn new(outside: Value, body: Value) -> Self {
        Self { body, outside }
    }

    /// Returns the id of the instance that sent it, or an empty text.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        self.body["sender"]["instanceId"].as_str().unwrap_or_default()
    }

    /// Returns whether it answers a command.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.body["messageType"].as_str().is_some_and(|it| it.ends_with("Response"))
    }

    /// Returns whether it is a command.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.body["messageType"] == "command"
    }

    /// Keeps only these fields of the message.
    pub fn keep(&mut self, fields: &[&str]) {
        if let Some(all) = self.body.as_object_mut() {
            all.retain(|key, _| fields.contains(&key.as_str()));
        }
    }
}

/// Takes a field out, which must be there.
pub(super) fn take(from: &mut Value, field: &str) -> anyhow::Result<Value> {
    let taken = from.as_object_mut().and_then(|fields| fields.remove(field));
    taken.with_context(|| format!("no {field} in {from}"))
}

/// A command of the original, and the original's answer to it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// What is special about it.
    pub case: String,
    /// The command.
    pub command: Frame,
    /// The answer, if somebody served it.
    pub answer: Option<Frame>,
}

impl Call {
    /// Returns the address of the command.
    pub fn address(&self) -> anyhow::Result<ServiceAddress> {
        samples::address(&self.command.body["receiver"])
    }

    /// Returns what a caller of ours says to send the same command.
    pub fn draft(&self) -> anyhow::Result<CommandDraft> {
        samples::command_draft(&self.command.body)
    }

    /// Returns the answer of the original.
    pub fn answer(&self) -> anyhow::Result<&Frame> {
        self.answer.as_ref().with_context(|| format!("{} has no answer", self.case))
    }
}

/// An event or info message of the original.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// What is special about it.
    pub case: String,
    /// The message.
    #[serde(flatten)]
    pub frame: Frame,
}

/// The parts of a topic or subject, in their order: the header that says the same, and where the message has it.
const ROUTE: [(&str, &str); 12] = [
    ("messageType", "/messageType"),
    ("principalId", "/principalId"),
    ("tenantId", "/tenantId"),
    ("senderInstanceId", "/sender/instanceId"),
    ("senderServiceName", "/sender/serviceName"),
    ("senderServiceVersion", "/sender/serviceVersion"),
    ("senderServiceTarget", "/sender/serviceTarget"),
    ("eventName", "/eventName"),
    ("receiverInstanceId", "/receiver/instanceId"),
    ("receiverServiceName", "/receiver/serviceName"),
    ("receiverServiceVersion", "/receiver/serviceVersion"),
    ("receiverServiceTarget", "/receiver/serviceTarget"),
];

/// Returns the topic or subject of a message.
#[must_use]
pub fn route(message: &Value, separator: &str, absent: &str) -> String {
    joined(separator, absent, |(_, pointer)| message.pointer(pointer).and_then(Value::as_str))
}

/// Returns the pattern of the topics or subjects of messages that have these headers.
#[must_use]
pub fn pattern(wanted: &[(&str, &str)], separator: &str, any: &str) -> String {
    joined(separator, any, |(name, _)| {
        wanted.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    })
}

fn joined<'a>(
    separator: &str,
    none: &str,
    part: impl Fn((&'static str, &'static str)) -> Option<&'a str>,
) -> String {
    let parts = ROUTE.map(|names| part(names).map_or_else(|| none.into(), snake));
    format!("purista{separator}{}", parts.join(separator))
}
