//! A client that knows nothing of bridges.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use purista_core::{Id, Result};
use rumqttc::{
    AsyncClient, ConnectionError, Event, Incoming, MqttOptions, NetworkOptions, Publish, PublishOptions,
    PublishProperties, QoS,
};
use tokio::{sync::mpsc, time::timeout};

use super::wire::unavailable;

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, which ends with this.
#[derive(Debug)]
pub(crate) struct Peer {
    client: AsyncClient,
    received: mpsc::UnboundedReceiver<Publish>,
}

impl Peer {
    /// Begins to connect.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::begin(options(address, format!("peer-{}", Id::random())))
    }

    /// Begins to connect as a user.
    pub(crate) fn connect_as(address: SocketAddr, user: &str, password: &str) -> Self {
        let mut options = options(address, format!("peer-{}", Id::random()));
        options.set_credentials(user, password.to_owned());
        Self::begin(options)
    }

    fn begin(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::builder(options).build();
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::Publish(publish)) = event
                    && sender.send(publish).is_err()
                {
                    break;
                }
            }
        });
        Self { client, received }
    }

    /// Publishes a message; returns when the broker has it.
    pub(crate) async fn publish(
        &self,
        topic: String,
        payload: Bytes,
        user_properties: Vec<(String, String)>,
    ) -> Result<()> {
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        self.send(topic, payload, PublishOptions::at_least_once().properties(properties)).await
    }

    pub(crate) async fn send(&self, topic: String, payload: Bytes, options: PublishOptions) -> Result<()> {
        let sent = self.client.publish_tracked(topic, payload, options).await.map_err(unavailable)?;
        timeout(PATIENCE, sent.wait_async()).await.map_err(unavailable)?.map(drop).map_err(unavailable)
    }

    pub(crate) async fn subscribe(&self, filter: String) -> Result<()> {
        let asked = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await.map_err(unavailable)?;
        timeout(PATIENCE, asked.wait_async()).await.map_err(unavailable)?.map(drop).map_err(unavailable)
    }

    /// Returns the next message; `None` if the connection is lost.
    pub(crate) async fn next(&mut self) -> Option<Publish> {
        self.received.recv().await
    }

    /// Takes what the broker retains for a filter.
    pub(crate) async fn take_retained(mut self, filter: String) -> Result<Vec<Publish>> {
        // What it retains comes before what is published after the subscription.
        let end = format!("end/{}", Id::random());
        self.subscribe(end.clone()).await?;
        self.subscribe(filter).await?;
        self.send(end.clone(), Bytes::new(), PublishOptions::at_least_once()).await?;
        let mut retained = Vec::new();
        loop {
            let next = timeout(PATIENCE, self.received.recv()).await.map_err(unavailable)?;
            match next.ok_or_else(|| unavailable("the connection is lost"))? {
                last if last.topic == end => break,
                message => retained.push(message),
            }
        }
        for Publish { topic, .. } in &retained {
            let topic = String::from_utf8_lossy(topic).into_owned();
            self.send(topic, Bytes::new(), PublishOptions::at_least_once().retained()).await?;
        }
        Ok(retained)
    }
}

/// Takes the session of another client over, and ends it.
pub(crate) async fn end_session(address: SocketAddr, client_id: String) -> Result<()> {
    let (client, mut events) = AsyncClient::builder(options(address, client_id)).build();
    let ended = async {
        let mut is_taken = false;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    is_taken = true;
                    client.disconnect().await.map_err(unavailable)?
                }
                Ok(_) => {}
                Err(ConnectionError::RequestsDone) => return Ok(()),
                // Whose session it was may have taken it back already.
                Err(_) if is_taken => return Ok(()),
                Err(cause) => return Err(unavailable(cause)),
            }
        }
    };
    timeout(PATIENCE, ended).await.map_err(unavailable)?
}

fn options(address: SocketAddr, client_id: String) -> MqttOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(client_id, (address.ip().to_string(), address.port()));
    options.set_network_options(network).set_unlimited_incoming_packet_size();
    options
}
