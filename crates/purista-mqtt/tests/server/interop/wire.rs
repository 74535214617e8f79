//! How the original uses MQTT.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use purista_core::{EventBridge, adapter::async_trait};
use purista_integration_tests::interop::{Came, Frame, Interest, Peer, Whose, Wire, pattern, route};
use rumqttc::{Publish, PublishProperties};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, topic},
    support::{Place, started},
};

/// A server of its own.
pub(crate) struct Mqtt {
    pub(crate) place: Place,
    /// Whether bridges have persistent sessions.
    keeps: bool,
}

#[async_trait]
impl Wire for Mqtt {
    const CALLS: &'static str = include_str!("../../samples/calls.jsonl");
    const EVENTS: &'static str = include_str!("../../samples/events.jsonl");

    async fn start() -> Self {
        Self { place: Place::stock().await, keeps: false }
    }

    async fn start_keeping() -> Self {
        Self { place: Place::tuned().await, keeps: true }
    }

    async fn bridge(&self, instance_id: Option<&str>) -> Arc<dyn EventBridge> {
        Arc::new(match instance_id {
            _ if self.keeps => started(self.place.persistent(instance_id.unwrap_or("reader"))).await,
            Some(instance_id) => self.place.instance(instance_id).await,
            None => self.place.bridge().await,
        })
    }

    async fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(MqttPeer { address: self.place.server.address(), client: self.place.client().await })
    }

    fn follow(frame: &mut Frame, asked: Option<&Frame>) {
        let Frame { body, outside, .. } = frame;
        outside["properties"]["correlationData"] = body["correlationId"].clone();
        if asked.is_none() {
            return;
        }
        outside["topic"] = json!(route(body, "/", "none"));
        for part in ["InstanceId", "ServiceName", "ServiceVersion", "ServiceTarget"] {
            let value = &body["receiver"][format!("{}{}", part[..1].to_lowercase(), &part[1..])];
            outside["properties"]["userProperties"][format!("receiver{part}")] = value.clone();
        }
    }

    fn strip(frame: &mut Frame) {
        frame.outside["properties"] = json!({});
    }

    fn comparable(&self, mut frame: Frame, whose: Whose) -> Frame {
        let (is_answer, is_command) = (frame.is_answer(), frame.is_command());
        let properties = frame.outside["properties"].as_object_mut().unwrap();
        if whose == Whose::Original {
            // Ours reads in the message itself what the original says beside it.
            properties.remove("userProperties");
        } else if is_command {
            // All that ours says beside it.
            let said = properties.remove("userProperties").unwrap();
            assert!((9_000..=10_000).contains(&time_limit(&said)), "{said}");
        }
        if !(is_answer || is_command) {
            return frame;
        }
        assert_eq!(properties.remove("correlationData").as_ref(), frame.body.get("correlationId"));
        let expiry = properties.remove("messageExpiryInterval").unwrap().as_u64().unwrap();
        // The original has the time limit in milliseconds as seconds, or the thousandth part of the default.
        let own = if is_command { 9..=10 } else { 2_592_000..=2_592_000 };
        assert!(whose == Whose::Original || own.contains(&expiry), "{expiry}");
        frame
    }
}

/// A client that sends, and one for each thing that it listens to.
struct MqttPeer {
    address: SocketAddr,
    client: Client,
}

#[async_trait]
impl Peer for MqttPeer {
    async fn listen(&self, to: Interest<'_>) -> Came {
        let is_shared = match to {
            Interest::Answers(_) => false,
            Interest::Command(_) => true,
            Interest::Subscription(wanted) => wanted.is_shared,
        };
        let (share, client) =
            (if is_shared { "$share/sharedpurista/" } else { "" }, Client::connect(self.address).await);
        client.subscribe(&format!("{share}{}", pattern(&to.wanted(), "/", "+"))).await;
        let came = stream::unfold(client, async |mut client| {
            let publish = client.receive().await?;
            Some((frame(&publish), client))
        });
        came.boxed()
    }

    async fn send_body(&self, outside: &Value, body: Bytes) {
        let properties = properties(&outside["properties"]);
        self.client.publish(outside["topic"].as_str().unwrap(), body, properties).await;
    }
}

fn properties(properties: &Value) -> PublishProperties {
    let text = |key: &str| properties[key].as_str().map(str::to_owned);
    let expiry = properties["messageExpiryInterval"].as_u64();
    let user_properties = properties["userProperties"].as_object().into_iter().flatten();
    let user_properties =
        user_properties.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
    PublishProperties {
        message_expiry_interval: expiry.map(|expiry| expiry.try_into().unwrap()),
        content_type: text("contentType"),
        correlation_data: text("correlationData").map(Into::into),
        user_properties: user_properties.collect(),
        ..PublishProperties::default()
    }
}

/// Returns how many milliseconds a caller of ours waits, which is all that it says beside a command.
pub(crate) fn time_limit(user_properties: &Value) -> u64 {
    assert_eq!(user_properties.as_object().unwrap().len(), 1, "{user_properties}");
    user_properties["purista-time-limit"].as_str().unwrap().parse().unwrap()
}

/// Reads what came.
fn frame(publish: &Publish) -> Frame {
    assert!(!publish.retain);
    let mut came = publish.properties.clone().unwrap_or_default();
    came.subscription_identifiers.clear();
    let mut known = Map::new();
    let mut put =
        |name: &str, value: Option<Value>| known.extend(value.map(|value| (name.to_owned(), value)));
    put("messageExpiryInterval", came.message_expiry_interval.map(Into::into));
    put("contentType", came.content_type.as_deref().map(Into::into));
    put("correlationData", came.correlation_data.as_deref().map(|data| json!(str::from_utf8(data).unwrap())));
    let named = came.user_properties.iter().map(|(name, value)| (name.clone(), json!(value)));
    put("userProperties", (!came.user_properties.is_empty()).then(|| Value::Object(named.collect())));
    let known = Value::Object(known);
    assert_eq!(came, properties(&known), "more than the original sends");
    let outside = json!({ "topic": topic(publish), "properties": known });
    Frame::new(outside, serde_json::from_slice(&publish.payload).unwrap())
}
