use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value};

/// A queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Whether it outlives the server's process.
    pub durable: bool,
    /// Whether it is deleted when its last consumer is gone.
    pub auto_delete: bool,
    /// Whether it belongs to one connection.
    #[serde(default, deserialize_with = "or_default")]
    pub exclusive: bool,
    /// Its type, such as `classic` or `quorum`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its arguments, such as `x-max-length`.
    #[serde(default, deserialize_with = "or_default")]
    pub arguments: Map<String, Value>,
    /// Its state, such as `running`.
    #[serde(default, deserialize_with = "or_default")]
    pub state: String,
    /// How many messages it has.
    #[serde(default, deserialize_with = "or_default")]
    pub messages: usize,
    /// How many of them wait for a consumer.
    #[serde(default, deserialize_with = "or_default")]
    pub messages_ready: usize,
    /// How many of them a consumer has.
    #[serde(default, deserialize_with = "or_default")]
    pub messages_unacknowledged: usize,
    /// How many consumers it has.
    #[serde(skip)]
    pub consumers: usize,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Exchange {
    /// Its name, which is empty for the default exchange.
    pub name: String,
    /// Its type, such as `topic`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it outlives the server's process.
    pub durable: bool,
    /// Whether it is deleted when its last binding is gone.
    pub auto_delete: bool,
    /// Whether clients cannot publish to it.
    pub internal: bool,
    /// Its arguments, such as `alternate-exchange`.
    #[serde(default, deserialize_with = "or_default")]
    pub arguments: Map<String, Value>,
}

/// What brings messages from an exchange to a queue or another exchange.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Binding {
    /// The exchange.
    pub source: String,
    /// The queue or exchange.
    pub destination: String,
    /// What the destination is: `queue` or `exchange`.
    #[serde(rename = "destination_type")]
    pub destination_kind: String,
    /// Its routing key, which may have wildcards.
    pub routing_key: String,
    /// What tells it from others of the same source and destination.
    pub properties_key: String,
    /// Its arguments, such as the headers of a headers exchange.
    #[serde(default, deserialize_with = "or_default")]
    pub arguments: Map<String, Value>,
}

/// A connection of a client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// Its name on the server.
    pub name: String,
    /// What the client told about itself, such as `connection_name`.
    #[serde(default, deserialize_with = "or_default")]
    pub client_properties: Map<String, Value>,
    /// Its state, such as `running` or `blocked`; empty if that is not known yet.
    #[serde(default, deserialize_with = "or_default")]
    pub state: String,
    /// How many channels it has.
    #[serde(default, deserialize_with = "or_default")]
    pub channels: usize,
}

/// A message that was taken from a queue.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The exchange that it was published to.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// Whether it was taken before.
    pub redelivered: bool,
    /// Its properties, such as `headers` and `delivery_mode`.
    #[serde(deserialize_with = "or_default")]
    pub properties: Map<String, Value>,
    /// Its payload, in base64 if it is no text.
    pub payload: String,
    /// How the payload is written: `string` or `base64`.
    pub payload_encoding: String,
}

impl Connection {
    /// Returns the name that the client gave itself.
    #[must_use]
    pub fn connection_name(&self) -> Option<&str> {
        self.client_properties.get("connection_name")?.as_str()
    }
}

/// Reads null, and the empty list that stands for an empty object, as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + DeserializeOwned,
{
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(T::default()),
        Value::Array(list) if list.is_empty() => Ok(T::default()),
        value => serde_json::from_value(value).map_err(D::Error::custom),
    }
}
