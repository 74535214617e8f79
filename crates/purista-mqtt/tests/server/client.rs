//! A client that knows nothing of bridges.

use std::net::SocketAddr;

use bytes::Bytes;
use purista_core::Id;
use rumqttc::{
    AsyncClient, BrokerSessionResumePolicy, Event, Incoming, MqttOptions, NetworkOptions, PubAckReason,
    Publish, PublishOptions, PublishProperties, PublishResult, QoS, SubscribeReasonCode,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};

use crate::support::within;

/// A connection, which ends with this.
pub(crate) struct Client {
    client: AsyncClient,
    received: mpsc::UnboundedReceiver<Publish>,
    polls: JoinHandle<()>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let options = options(address, &format!("client-{}", Id::random()));
        let (client, mut events) = AsyncClient::builder(options).capacity(100).build();
        let (sender, received) = mpsc::unbounded_channel();
        let polls = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::Publish(publish)) = event {
                    // Who does not read any more is about to end this.
                    let _gone = sender.send(publish);
                }
            }
        });
        Self { client, received, polls }
    }

    /// Subscribes; returns when the broker routes to this.
    pub(crate) async fn subscribe(&self, filter: &str) {
        let asked = self.client.subscribe_tracked(filter, QoS::AtLeastOnce).await.unwrap();
        let answer = within("a subscription", asked.wait_async()).await.unwrap();
        let granted = [SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        assert_eq!(answer.return_codes, granted, "{filter}");
    }

    /// Publishes a message; returns what the broker says of it.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        properties: PublishProperties,
    ) -> PubAckReason {
        let options = PublishOptions::at_least_once().properties(properties);
        let sent = self.client.publish_tracked(topic, payload.into(), options).await.unwrap();
        match within("an acknowledgement", sent.wait_async()).await.unwrap() {
            PublishResult::Qos1(acknowledgement) => acknowledgement.reason,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the next message.
    pub(crate) async fn next(&mut self) -> Publish {
        within("a message", self.receive()).await.unwrap()
    }

    /// Waits for the next message, however long; `None` when the connection is lost.
    pub(crate) async fn receive(&mut self) -> Option<Publish> {
        self.received.recv().await
    }

    /// Returns all that came before now.
    pub(crate) async fn all(&mut self) -> Vec<Publish> {
        let end = format!("end/{}", Id::random());
        self.subscribe(&end).await;
        self.publish(&end, "", PublishProperties::default()).await;
        let mut came = Vec::new();
        loop {
            match self.next().await {
                last if last.topic == end => return came,
                message => came.push(message),
            }
        }
    }
}

/// Takes a client's session over and ends it; returns whether there was one.
pub(crate) async fn end_session(address: SocketAddr, client_id: &str) -> bool {
    let mut options = options(address, client_id);
    options
        .set_clean_start(false)
        .set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly)
        .set_session_expiry_interval(Some(0));
    let (client, mut events) = AsyncClient::builder(options).build();
    loop {
        if let Event::Incoming(Incoming::ConnAck(answer)) = within("an answer", events.poll()).await.unwrap()
        {
            client.disconnect().await.unwrap();
            within("the end", async { while events.poll().await.is_ok() {} }).await;
            return answer.session_present;
        }
    }
}

/// Takes a client's session over, and leaves it with one more subscription. The client library would subscribe to nothing in
/// a session that it does not know.
pub(crate) async fn add_to_session(address: SocketAddr, client_id: &str, filter: &str) {
    let text = |text: &str| [&[0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let packet = |kind: u8, body: &[u8]| [&[kind, u8::try_from(body.len()).unwrap()], body].concat();
    // Version 5, no clean start, no keep alive, and the session expiry interval as its only property.
    let connect = [&text("MQTT")[..], &[5, 0, 0, 0, 5, 0x11, 0, 0, 0xff, 0xff], &text(client_id)].concat();
    let subscribe = [&[0, 1, 0][..], &text(filter), &[1]].concat();
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (packet, answer) in [(packet(0x10, &connect), 0x20), (packet(0x82, &subscribe), 0x90)] {
        stream.write_all(&packet).await.unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; head[1].into()];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(head[0], answer, "{body:?}");
        assert!(answer != 0x20 || body[..2] == [1, 0], "no session: {body:?}");
    }
}

fn options(address: SocketAddr, client_id: &str) -> MqttOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(client_id, (address.ip().to_string(), address.port()));
    options.set_network_options(network).set_unlimited_incoming_packet_size();
    options
}

impl Drop for Client {
    fn drop(&mut self) {
        self.polls.abort();
    }
}

/// Reads the topic of a message.
pub(crate) fn topic(publish: &Publish) -> &str {
    std::str::from_utf8(&publish.topic).unwrap()
}
