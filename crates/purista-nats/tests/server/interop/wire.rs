//! How the original uses NATS.

use std::sync::Arc;

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use purista_core::{EventBridge, adapter::async_trait};
use purista_integration_tests::interop::{Came, Frame, Interest, Peer, Whose, Wire, pattern};
use serde_json::{Map, Value, json};

use crate::support::{Place, body, settled, started};

/// A prefix of its own on a server with or without JetStream.
pub(crate) struct Nats<const JETSTREAM: bool> {
    pub(crate) place: Arc<Place>,
}

#[async_trait]
impl<const JETSTREAM: bool> Wire for Nats<JETSTREAM> {
    const CALLS: &'static str = include_str!("../../samples/calls.jsonl");
    const EVENTS: &'static str = include_str!("../../samples/events.jsonl");

    async fn start() -> Self {
        Self { place: Arc::new(Place::shared(JETSTREAM).await) }
    }

    async fn bridge(&self, instance_id: Option<&str>) -> Arc<dyn EventBridge> {
        let builder = self.place.builder();
        Arc::new(match instance_id {
            Some(instance_id) => started(builder.instance_id(instance_id)).await,
            None => started(builder).await,
        })
    }

    async fn peer(&self) -> Arc<dyn Peer> {
        let client = self.place.client().await;
        let inbox = client.new_inbox();
        Arc::new(NatsPeer { place: Arc::clone(&self.place), client, inbox })
    }

    /// The body says all but where an answer goes.
    fn follow(frame: &mut Frame, asked: Option<&Frame>) {
        if let Some(asked) = asked {
            frame.outside["subject"] = asked.outside["reply"].clone();
        }
    }

    fn strip(frame: &mut Frame) {
        frame.outside["headers"].take();
    }

    /// Only the subject says something: our headers are our own, and nobody reads those of the original.
    fn comparable(&self, mut frame: Frame, whose: Whose) -> Frame {
        let subject = frame.outside["subject"].as_str().unwrap_or_default();
        if whose == Whose::Ours {
            // It would make the original begin a new trace.
            assert_eq!(frame.outside["headers"].get("traceparent"), None);
            let own_inbox = format!(".{}", frame.body["correlationId"].as_str().unwrap_or_default());
            assert!(
                !frame.is_answer() || subject.ends_with(&own_inbox),
                "{subject} is not the caller's inbox"
            );
        }
        // The samples do not say which inbox it was.
        frame.outside = if frame.is_answer() { Value::Null } else { json!(self.place.here(subject)) };
        frame
    }
}

/// A plain client, and one inbox for all answers.
struct NatsPeer {
    place: Arc<Place>,
    client: Client,
    inbox: String,
}

#[async_trait]
impl Peer for NatsPeer {
    async fn listen(&self, to: Interest<'_>) -> Came {
        let group = match to {
            Interest::Command(command) => Some(format!(
                "{}_{}_{}",
                command.service_name, command.service_version, command.service_target
            )),
            Interest::Subscription(wanted) if wanted.is_shared => {
                Some(format!("PeerSubscriber_1_{}", wanted.name))
            }
            Interest::Answers(_) | Interest::Subscription(_) => None,
        };
        let pattern = match to {
            Interest::Answers(_) => format!("{}.*", self.inbox),
            Interest::Command(_) | Interest::Subscription(_) => {
                self.place.here(&pattern(&to.wanted(), ".", "*"))
            }
        };
        let subscriber = match group {
            Some(group) => {
                let group = self.place.group_here(&format!("PURISTA_QUEUE_{group}").to_uppercase());
                self.client.queue_subscribe(pattern, group).await.unwrap()
            }
            None => self.client.subscribe(pattern).await.unwrap(),
        };
        settled(&self.client).await;
        subscriber.map(|message| frame(&message)).boxed()
    }

    async fn send_body(&self, outside: &Value, body: Bytes) {
        let subject = self.place.here(outside["subject"].as_str().unwrap());
        if subject.contains(".command.") {
            let command: Value = serde_json::from_slice(&body).unwrap_or_default();
            let inbox = format!("{}.{}", self.inbox, command["correlationId"].as_str().unwrap_or("none"));
            self.client.publish_with_reply(subject, inbox, body).await.unwrap();
        } else if let Some(headers) = outside["headers"].as_object() {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(name.as_str(), value.as_str().unwrap());
            }
            self.client.publish_with_headers(subject, map, body).await.unwrap();
        } else {
            self.client.publish(subject, body).await.unwrap();
        }
        settled(&self.client).await;
    }
}

/// Reads what came.
fn frame(message: &Message) -> Frame {
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    let headers = headers.map(|(name, values)| (name.to_string(), json!(values[0].as_str())));
    let outside = json!({
        "subject": message.subject.as_str(),
        "reply": message.reply.as_deref(),
        "headers": Map::from_iter(headers),
    });
    Frame::new(outside, body(message))
}
