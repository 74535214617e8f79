//! Clients that behave as the original does.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::{Client, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::samples::{Answer, Call, Listener};
use crate::support::{Place, next, settled};

/// A caller: plain requests without headers, and one inbox for all answers.
pub(crate) struct Caller {
    client: Client,
    inbox: String,
    answers: Subscriber,
    sent: u32,
}

impl Caller {
    pub(crate) async fn new(place: &Place) -> Self {
        let client = place.client().await;
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.unwrap();
        Self { client, inbox, answers, sent: 0 }
    }

    /// Sends a command, and returns where its answer comes.
    pub(crate) async fn send(&mut self, subject: String, command: &Value) -> String {
        self.sent += 1;
        let inbox = format!("{}.{}", self.inbox, self.sent);
        let bytes = Bytes::from(command.to_string());
        self.client.publish_with_reply(subject, inbox.clone(), bytes).await.unwrap();
        inbox
    }

    /// Returns what comes next to the inbox.
    pub(crate) async fn answer(&mut self) -> Message {
        next(&mut self.answers).await
    }
}

/// The same command once more, as another call.
pub(crate) fn again(command: &Value, number: usize) -> Value {
    let mut other = command.clone();
    other["id"] = json!(format!("{number:032x}"));
    other["correlationId"] = json!(format!("{:032x}", number + (1 << 20)));
    other
}

/// A service: a queue group, whose members answer to the inbox.
pub(crate) struct Service {
    commands: Arc<Mutex<Vec<Message>>>,
    _task: AbortOnDropHandle<()>,
}

impl Service {
    /// Starts to answer; no answer is one that `answer` does not give.
    pub(crate) async fn start(
        place: &Place,
        listener: &Listener,
        answer: impl Fn(&Value) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let client = place.client().await;
        let pattern = place.here(&listener.pattern);
        let queue = place.group_here(listener.queue.as_deref().unwrap());
        let mut subscriber = client.queue_subscribe(pattern, queue).await.unwrap();
        settled(&client).await;
        let commands = Arc::<Mutex<Vec<Message>>>::default();
        let seen = Arc::clone(&commands);
        let task = tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                let command: Value = serde_json::from_slice(&message.payload).unwrap();
                let inbox = message.reply.clone().unwrap();
                seen.lock().push(message);
                let Some(Answer { headers, body }) = answer(&command) else { continue };
                let bytes = Bytes::from(body.to_string());
                client.publish_with_headers(inbox, header_map(&headers), bytes).await.unwrap();
            }
        });
        Self { commands, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns the commands that came.
    pub(crate) fn commands(&self) -> Vec<Message> {
        self.commands.lock().clone()
    }
}

/// Answers a command as the original answered the one of the sample.
pub(crate) fn answer_as_in(call: &Call, command: &Value) -> Answer {
    let Answer { headers, mut body } = call.answer().clone();
    for key in ["id", "correlationId"] {
        body[key] = command[key].clone();
    }
    body["receiver"] = command["sender"].clone();
    Answer { headers, body }
}

pub(crate) fn header_map(headers: &BTreeMap<String, String>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(name.as_str(), value.as_str());
    }
    map
}
