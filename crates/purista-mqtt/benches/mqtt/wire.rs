//! What the bridge puts on the wire, for the raw client to send the very same.

use std::net::SocketAddr;

use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, Publish, PublishProperties, QoS, ValidatedTopic};

use crate::client::Link;

/// Listens to what a bridge sends.
pub(crate) struct Wire {
    events: EventLoop,
    _client: AsyncClient,
}

impl Wire {
    pub(crate) async fn listen(broker: SocketAddr, filter: String) -> anyhow::Result<Self> {
        let (client, mut events) = Link::new(broker, &format!("wire-{filter}")).build()?;
        client.subscribe(filter, QoS::AtLeastOnce).await?;
        while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
        Ok(Self { events, _client: client })
    }

    /// Returns the next message that was sent.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Sent> {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = self.events.poll().await? {
                return Sent::new(publish);
            }
        }
    }
}

/// A message as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    topic: String,
    pub(crate) payload: Bytes,
    pub(crate) properties: PublishProperties,
}

impl Sent {
    fn new(publish: Publish) -> anyhow::Result<Self> {
        let Publish { topic, payload, properties, .. } = publish;
        let topic = String::from_utf8(topic.to_vec())?;
        Ok(Self { topic, payload, properties: properties.unwrap_or_default() })
    }

    /// Returns its topic under another prefix.
    pub(crate) fn topic(&self, prefix: &str) -> anyhow::Result<ValidatedTopic> {
        let tail = self.topic.split_once('/').map_or("", |(_, tail)| tail);
        Ok(ValidatedTopic::new(format!("{prefix}/{tail}"))?)
    }

    /// Returns a filter under another prefix, which names only the levels of the topic at these places.
    pub(crate) fn filter(&self, prefix: &str, named: &[usize]) -> String {
        let level = |(place, level)| match place {
            0 => prefix,
            place if named.contains(&place) => level,
            _ => "+",
        };
        self.topic.split('/').enumerate().map(level).collect::<Vec<_>>().join("/")
    }
}
