//! Peers that speak the wire as the TypeScript original does (wire format), for rows that ours must share with it.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use purista_core::{Id, Name, Receiver, Result, ServiceAddress};
use serde_json::{Map, Value, json};
use tokio::{sync::Notify, time::Instant};

use crate::stage::PATIENCE;

/// An instance of the original on the real broker: its groups, topics, queues and headers, by a plain client. It has
/// registered what its [`Part`] says.
#[async_trait]
pub trait Original: Send + Sync {
    /// Puts a message on the route that it asks for, beside what the original sends beside it. The `body` is what is
    /// sent; it may be no message at all. A command or the opening of a stream is answered to this instance:
    /// [`Part::answers`].
    ///
    /// # Errors
    ///
    /// Why the broker did not take it.
    async fn send(&self, message: &Value, body: Bytes) -> Result<()>;
}

/// What an instance of the original does on its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Part {
    /// Its id, which each of its answers names.
    pub instance_id: String,
    /// The commands that it serves, in the group that the original names.
    pub serves: Vec<Served>,
    /// Its subscriptions to events, which its instances share.
    pub subscribes: Vec<Subscribed>,
    /// What came as answers to its commands.
    pub answers: Arc<Bodies>,
}

/// A command that an instance of the original serves, wherever it came and for whichever instance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Served {
    /// Its address.
    pub command: ServiceAddress,
    /// What came.
    pub seen: Arc<Bodies>,
    instance_id: String,
    /// What is answered instead of the input, as JSON text.
    answers_with: Option<String>,
}

/// A subscription of an instance of the original.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscribed {
    /// Who subscribes.
    pub subscriber: ServiceAddress,
    /// To which event.
    pub event_name: Name,
    /// What came.
    pub seen: Arc<Bodies>,
}

impl Part {
    /// Creates a part that only calls and emits.
    pub(crate) fn new(instance_id: impl Into<String>) -> Self {
        let instance_id = instance_id.into();
        Self { instance_id, serves: Vec::new(), subscribes: Vec::new(), answers: Arc::default() }
    }

    /// Serves a command, which answers its input.
    pub(crate) fn serving(self, command: ServiceAddress) -> Self {
        self.answering(command, None)
    }

    /// Serves a command, which answers this JSON text.
    pub(crate) fn answering(mut self, command: ServiceAddress, answers_with: Option<String>) -> Self {
        let (instance_id, seen) = (self.instance_id.clone(), Arc::default());
        self.serves.push(Served { command, seen, instance_id, answers_with });
        self
    }

    /// Subscribes to an event.
    pub(crate) fn subscribing(mut self, subscriber: ServiceAddress, event_name: Name) -> Self {
        self.subscribes.push(Subscribed { subscriber, event_name, seen: Arc::default() });
        self
    }

    /// Returns what the first command got.
    pub(crate) fn served(&self) -> anyhow::Result<&Arc<Bodies>> {
        Ok(&self.serves.first().context("it serves nothing")?.seen)
    }

    /// Makes a command of this instance.
    pub(crate) fn command(
        &self,
        sender: &ServiceAddress,
        receiver: impl Into<Receiver>,
        input: impl Into<Value>,
    ) -> Value {
        let receiver = receiver.into();
        let mut to = party(&receiver.address);
        if let Some(instance_id) = &receiver.instance_id {
            to["instanceId"] = json!(instance_id);
        }
        let mut command = self.message("command", sender);
        command["correlationId"] = json!(Id::random());
        command["receiver"] = to;
        command["payload"] = json!({ "payload": input.into(), "parameter": {} });
        command
    }

    /// Makes an event of this instance.
    pub(crate) fn event(&self, sender: &ServiceAddress, event_name: &str, content: Value) -> Value {
        let mut event = self.message("customMessage", sender);
        event["eventName"] = json!(event_name);
        event["payload"] = content;
        event
    }

    /// Makes a message with what all messages have.
    pub(crate) fn message(&self, message_type: &str, sender: &ServiceAddress) -> Value {
        let mut from = party(sender);
        from["instanceId"] = json!(self.instance_id);
        json!({
            "messageType": message_type,
            "id": Id::random(),
            "timestamp": 1_790_200_000_000_u64,
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "otp": "{}",
            "sender": from,
        })
    }
}

impl Served {
    /// Notes a command and returns the answer of the original to it: the message, and the bytes of its body.
    #[must_use]
    pub fn execute(&self, command: Value) -> (Value, Bytes) {
        let mut answer = Map::new();
        for field in ["id", "correlationId", "traceId", "tenantId", "principalId", "otp"] {
            if let Some(value) = command.get(field) {
                answer.insert(field.to_owned(), value.clone());
            }
        }
        let mut from = party(&self.command);
        from["instanceId"] = json!(self.instance_id);
        answer.insert("messageType".to_owned(), json!("commandSuccessResponse"));
        answer.insert("timestamp".to_owned(), json!(1_790_200_000_100_u64));
        answer.insert("contentType".to_owned(), json!("application/json"));
        answer.insert("contentEncoding".to_owned(), json!("utf-8"));
        answer.insert("sender".to_owned(), from);
        answer.insert("receiver".to_owned(), command["sender"].clone());
        let input = command["payload"]["payload"].clone();
        self.seen.add(command);
        let mut whole = Value::Object(answer);
        let body = match &self.answers_with {
            None => {
                whole["payload"] = input;
                whole.to_string()
            }
            // As text, as it may nest deeper than a value can.
            Some(text) => format!("{{\"payload\":{text},{}", &whole.to_string()[1..]),
        };
        (whole, body.into())
    }
}

fn party(address: &ServiceAddress) -> Value {
    json!({
        "serviceName": address.service_name,
        "serviceVersion": address.service_version,
        "serviceTarget": address.service_target,
    })
}

/// The bodies of messages that came to an instance of the original.
#[derive(Debug, Default)]
pub struct Bodies {
    seen: Mutex<Vec<Value>>,
    came: Notify,
}

impl Bodies {
    /// Adds one.
    pub fn add(&self, body: Value) {
        self.seen.lock().push(body);
        self.came.notify_waiters();
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    pub(crate) fn all(&self) -> Vec<Value> {
        self.seen.lock().clone()
    }

    /// Waits for a body of which something holds.
    pub(crate) async fn find(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if let Some(body) = self.seen.lock().iter().find(|body| is_it(body)) {
                return Ok(body.clone());
            }
            let more = tokio::time::timeout_at(deadline, came).await;
            more.with_context(|| format!("{what} did not come within {PATIENCE:?}; seen: {:?}", self.all()))?;
        }
    }

    /// Waits for the answer to a command.
    pub(crate) async fn answer_to(&self, command: &Value) -> anyhow::Result<Value> {
        let wanted = &command["correlationId"];
        self.find("the answer", |body| body["correlationId"] == *wanted).await
    }
}
