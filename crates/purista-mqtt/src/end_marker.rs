use bytes::Bytes;
use purista_core::{Id, Result};
use rumqttc::Publish;

use crate::{codec::marker, session::Session};

/// What comes over a session after all that the broker had for it. An earlier one may still be in the session, in the middle
/// of what has come since: then somebody was interrupted who emptied it.
#[derive(Debug)]
pub(crate) struct EndMarker {
    topic: String,
    id: Bytes,
}

/// What an arrival is to somebody who waits for the end.
pub(crate) enum Place {
    Before,
    End,
    /// It is an earlier marker.
    Nowhere,
}

impl EndMarker {
    /// Has it come on a topic that belongs to the session alone.
    pub(crate) async fn send(session: &Session, topic: &str, operation: &'static str) -> Result<Self> {
        let topic = topic.to_owned();
        let id = Bytes::copy_from_slice(Id::random().as_bytes());
        session.subscribe(std::slice::from_ref(&topic), None).await?;
        session.publish_once(topic.clone(), id.clone(), marker(), operation).await?;
        Ok(Self { topic, id })
    }

    pub(crate) fn place_of(&self, publish: &Publish) -> Place {
        match publish.topic == self.topic {
            true if publish.payload == self.id => Place::End,
            true => Place::Nowhere,
            false => Place::Before,
        }
    }
}
