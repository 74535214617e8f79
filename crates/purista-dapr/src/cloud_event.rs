//! Messages as the CloudEvents of a sidecar (wire format, section 6).

use bytes::Bytes;
use purista_cloudevents::{CloudEvent, event_id};
use purista_core::{Message, adapter::DeadLetter};

/// Where a message goes, for its CloudEvent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    pub(crate) source: &'a str,
    pub(crate) pubsub_name: &'a str,
    pub(crate) topic: &'a str,
    /// Whether it is the topic for all messages. Some brokers drop what comes twice with one id.
    pub(crate) is_for_all: bool,
}

impl<'a> Destination<'a> {
    fn event(self, id: String, kind: String) -> CloudEvent<'a> {
        let event = CloudEvent::new(id, kind, self.source);
        event.with_attribute("pubsubname", self.pubsub_name).with_attribute("topic", self.topic)
    }
}

/// Makes the CloudEvent of a message, whose bytes it holds as they are.
pub(crate) fn cloud_event(message: &Message, envelope: &[u8], to: Destination<'_>) -> Bytes {
    let mut id = event_id(message);
    if to.is_for_all {
        id.push_str("-all");
    }
    let kind = format!("purista.{}", message.message_type().as_str());
    to.event(id, kind).with_message(message, envelope)
}

/// Makes the CloudEvent of a dead letter.
pub(crate) fn dead_letter(letter: &DeadLetter, to: Destination<'_>) -> Bytes {
    let id = format!("{}-{}-{}", letter.message_id, letter.subscriber, letter.last_attempt_at);
    to.event(id, "purista.deadLetter".to_owned()).with_dead_letter(letter)
}

#[cfg(test)]
mod tests {
    use purista_core::{EventDraft, Id, Payload};

    use super::*;

    #[test]
    fn ids_differ_between_topics_and_types() {
        let draft = EventDraft::event(("User", "1", "signUp"), "userCreated");
        let message = draft.with_payload(Payload::json(&1).unwrap()).stamp(&Id::from("instance"));
        let event = |is_for_all| {
            let to = Destination { source: "app", pubsub_name: "pubsub", topic: "userCreated", is_for_all };
            serde_json::from_slice::<serde_json::Value>(&cloud_event(&message, b"{}", to)).unwrap()
        };
        assert_eq!(event(false)["id"], format!("{}-customMessage", message.id));
        assert_eq!(event(true)["id"], format!("{}-customMessage-all", message.id));
        assert_eq!(
            (&event(true)["pubsubname"], &event(true)["topic"]),
            (&"pubsub".into(), &"userCreated".into())
        );
    }
}
