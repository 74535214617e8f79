//! Environment variables: what cannot be is refused, and secrets are never shown.

use purista_core::adapter::Variables;

use crate::{Verdict, input};

/// All that the bridges read, and one that they do not.
const NAMES: [&str; 29] = [
    "PURISTA_NATS_URL",
    "PURISTA_NATS_USER",
    "PURISTA_NATS_NKEY",
    "PURISTA_NATS_CREDENTIALS",
    "PURISTA_NATS_CA",
    "PURISTA_NATS_CERTIFICATE",
    "PURISTA_NATS_KEY",
    "PURISTA_NATS_PREFIX",
    "PURISTA_INSTANCE_ID",
    "PURISTA_AMQP_URL",
    "PURISTA_AMQP_USER",
    "PURISTA_AMQP_VHOST",
    "PURISTA_AMQP_CA",
    "PURISTA_AMQP_CERTIFICATE",
    "PURISTA_AMQP_KEY",
    "PURISTA_AMQP_PREFIX",
    "PURISTA_MQTT_URL",
    "PURISTA_MQTT_USER",
    "PURISTA_MQTT_CA",
    "PURISTA_MQTT_CERTIFICATE",
    "PURISTA_MQTT_KEY",
    "PURISTA_MQTT_PREFIX",
    "PURISTA_MQTT_SESSION_EXPIRY",
    "DAPR_HTTP_PORT",
    "APP_PORT",
    "APP_ID",
    "PURISTA_DAPR_PUBSUB",
    "PURISTA_DAPR_ALL_MESSAGES_TOPIC",
    "OTHER",
];

const SECRETS: [&str; 6] = [
    "PURISTA_NATS_PASSWORD",
    "PURISTA_NATS_TOKEN",
    "PURISTA_AMQP_PASSWORD",
    "PURISTA_MQTT_PASSWORD",
    "DAPR_API_TOKEN",
    "APP_API_TOKEN",
];

/// Marks what must not be seen.
const SECRET: &str = "SECRET-5e1f";

/// Checks one input.
pub fn run(data: &[u8]) -> Verdict {
    let mut variables: Vec<(&str, String)> = Vec::new();
    for field in input::texts(data) {
        if field.contains(SECRET) {
            // It would be no secret.
            return Verdict::Refused;
        }
        let mut characters = field.chars();
        let Some(first) = characters.next() else { continue };
        let index = (u32::from(first) as usize).wrapping_sub('A' as usize) % (NAMES.len() + SECRETS.len());
        let value = characters.as_str();
        variables.push(match SECRETS.get(index) {
            Some(name) => (*name, format!("{SECRET}{value}")),
            None => (NAMES[index - SECRETS.len()], value.to_owned()),
        });
    }
    let variables: Variables = variables.into_iter().collect();
    macro_rules! check {
        ($bridge:ident) => {{
            let configured = $bridge::fuzzing::from_variables(&variables);
            hides_secrets(&configured);
            let built = configured.and_then(|builder| builder.build());
            hides_secrets(&built.as_ref().err());
            built.is_ok()
        }};
    }
    let is_accepted = [check!(purista_nats), check!(purista_amqp), check!(purista_mqtt)];
    // It makes a client for HTTP, which takes long: the configuration is what comes from the environment.
    let dapr = purista_dapr::fuzzing::from_variables(&variables);
    hides_secrets(&dapr);
    Verdict::accepted(is_accepted.contains(&true))
}

fn hides_secrets(shown: &impl std::fmt::Debug) {
    let shown = format!("{shown:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}
