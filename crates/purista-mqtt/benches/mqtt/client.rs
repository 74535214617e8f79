//! The raw client in its strongest form: what comes is handled where it is read.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use purista_integration_tests::bench::Stage;
use rumqttc::{
    AckMode, AsyncClient, Broker, ConnectProperties, ConnectionError, Event, EventLoop, MqttOptions, Packet,
    PubAckReason, Publish, PublishOptions, PublishResult, QoS, SubscribeFilterInput, SubscribeProperties,
    SubscribeReasonCode, ValidatedTopic,
};

use crate::{bridge::SESSION_EXPIRY, socket::connect};

/// How many messages may be on their way in either direction without an acknowledgement, unless the broker allows less.
const WINDOW: u16 = 2_048;

/// How many requests go onto the wire in one go.
const MAX_REQUEST_BATCH: usize = 64;

/// How the raw client connects.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    options: MqttOptions,
}

impl Link {
    /// A connection without delays, whose session ends with it.
    pub(crate) fn new(broker: SocketAddr, client_id: &str) -> Self {
        let mut options = MqttOptions::new(client_id, Broker::tcp(broker.ip().to_string(), broker.port()));
        options.set_outgoing_inflight_upper_limit(WINDOW).set_max_request_batch(MAX_REQUEST_BATCH);
        let link = Self { options };
        link.with_properties(|properties| properties.receive_maximum = Some(WINDOW)).with_socket(true)
    }

    /// Leaves the delays to the kernel.
    pub(crate) fn slow(self) -> Self {
        self.with_socket(false)
    }

    /// Lets the broker keep the session, and send so many messages before one of them is acknowledged.
    pub(crate) fn durable(self, receive_maximum: u16) -> Self {
        let mut link = self.with_properties(|properties| {
            properties.receive_maximum = Some(receive_maximum);
            properties.session_expiry_interval = u32::try_from(SESSION_EXPIRY.as_secs()).ok();
        });
        link.options.set_clean_start(false).set_ack_mode(AckMode::Manual);
        link
    }

    fn with_properties(mut self, set: impl FnOnce(&mut ConnectProperties)) -> Self {
        let mut properties = self.options.connect_properties().unwrap_or_default();
        set(&mut properties);
        self.options.set_connect_properties(properties);
        self
    }

    fn with_socket(mut self, is_quick: bool) -> Self {
        self.options.set_socket_connector(move |address, _| connect(address, is_quick));
        self
    }

    /// Connects as soon as it is read.
    pub(crate) fn build(self) -> anyhow::Result<(AsyncClient, EventLoop)> {
        Ok(AsyncClient::builder(self.options).unbounded().try_build()?)
    }
}

/// Reads until the end of the stage. Acknowledgements go out before more is read, if the handler asks for them.
pub(crate) fn read(
    stage: &mut Stage,
    mut events: EventLoop,
    mut handle: impl FnMut(Publish) -> anyhow::Result<()> + Send + 'static,
) {
    stage.keep_task(tokio::spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => handle(publish)?,
                Ok(_) => {}
                // Nobody has the client any more.
                Err(ConnectionError::RequestsDone) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }));
}

/// Subscribes; returns when the broker routes to us. What comes has this identifier.
pub(crate) async fn subscribe(client: &AsyncClient, filter: &str, id: Option<usize>) -> anyhow::Result<()> {
    let filters = [SubscribeFilterInput::new(filter, QoS::AtLeastOnce)];
    let properties = SubscribeProperties { id, user_properties: Vec::new() };
    let notice = client.subscribe_many_with_properties_tracked(filters, properties).await?;
    let answer = notice.wait_async().await?;
    let code = answer.return_codes.first().context("no answer")?;
    ensure!(matches!(code, SubscribeReasonCode::Success(_)), "{filter} was refused: {code:?}");
    Ok(())
}

/// Publishes; returns what the broker says of it.
pub(crate) async fn publish(
    client: &AsyncClient,
    topic: ValidatedTopic,
    payload: Bytes,
    options: PublishOptions,
) -> anyhow::Result<PubAckReason> {
    match client.publish_tracked(topic, payload, options).await?.wait_async().await? {
        PublishResult::Qos1(acknowledgement) => Ok(acknowledgement.reason),
        other => bail!("{other:?} is no answer to QoS 1"),
    }
}
