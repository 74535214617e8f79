//! What is private and reads foreign bytes, for the fuzz targets. It is no part of the API.

#![expect(clippy::must_use_candidate, reason = "fuzz targets call it for what it returns")]

use lapin::{
    BasicProperties,
    protocol::{AMQPError, AMQPSoftError},
    types::FieldTable,
};
use purista_core::{Filter, Id, Message, Result, ServiceAddress, adapter::Variables, fuzzing::Beside};
use tokio::time::Instant;

use crate::{
    AmqpBridgeBuilder,
    address::{Names, command_key, event_key, reply_key},
    codec::{self, Reply},
    config::Config,
    error,
    topology::Topology,
    typescript,
};

/// Returns how many attempts failed beside the rest: as whoever gave the message back says, by the broker, and both together.
pub fn beside(properties: &BasicProperties, redelivered: bool) -> Beside<[u32; 3]> {
    let now = Instant::now();
    let failed = codec::failed_attempts(properties, redelivered);
    let time_limit = codec::deadline(properties, now).map(|deadline| deadline - now);
    let failed_attempts = [failed.given_back, failed.by_broker, failed.total()];
    Beside::new(time_limit, codec::is_refusal(properties), failed_attempts)
}

/// Returns which attempt a delivery is for.
pub fn attempt(properties: &BasicProperties, redelivered: bool) -> u32 {
    codec::failed_attempts(properties, redelivered).attempt()
}

pub fn given_back(properties: &BasicProperties, failed_attempts: u32) -> BasicProperties {
    codec::given_back(properties, failed_attempts)
}

pub fn dead_letter(metadata: &str) -> BasicProperties {
    codec::dead_letter(metadata)
}

/// Reads how large a message may be out of the broker's refusal of one that was larger.
pub fn max_message_size(text: &str) -> Option<usize> {
    let refused = AMQPError::new(AMQPSoftError::PRECONDITIONFAILED.into(), text.into());
    error::max_message_size(&lapin::ErrorKind::ProtocolError(refused).into())
}

pub fn contradicts(message: &Message, headers: Option<&FieldTable>) -> Option<&'static str> {
    typescript::contradicts(message, headers)
}

/// Returns exchange, routing key and properties of a message, by the default topology or that of the original.
///
/// # Errors
///
/// None with a prefix that can be.
pub fn route(is_typescript: bool, message: &Message) -> Result<(String, String, BasicProperties)> {
    let mut config = Config::new("amqp://localhost")?;
    config.is_typescript = is_typescript;
    let route = Topology::new(&config).route(message, &Reply::default());
    Ok((route.exchange.to_string(), route.routing_key.to_string(), route.properties))
}

pub fn address(prefix: &str, message: &Message) -> String {
    Names::new(prefix).address(message)
}

pub fn pattern(prefix: &str, filter: &Filter) -> String {
    Names::new(prefix).pattern(filter)
}

/// Returns the names that are another one for another subscriber.
pub fn names_of(prefix: &str, address: &ServiceAddress) -> Vec<String> {
    let names = Names::new(prefix);
    let subscription = names.subscription(address, None);
    vec![names.command_queue(address), names.turn(&subscription), subscription]
}

/// Returns the names that are another one for another instance of a subscriber.
pub fn names_at(prefix: &str, address: &ServiceAddress, instance_id: &Id) -> Vec<String> {
    let names = Names::new(prefix);
    vec![names.subscription(address, Some(instance_id)), command_key(address, Some(instance_id))]
}

/// Returns the routing keys of an event and of responses to an instance.
pub fn keys(event_name: &str, instance_id: &Id) -> [String; 2] {
    [event_key(event_name), reply_key(instance_id)]
}

/// Configures a bridge by the environment. The errors are those of `from_env`.
pub fn from_variables(variables: &Variables) -> Result<AmqpBridgeBuilder> {
    AmqpBridgeBuilder::from_variables(variables)
}
