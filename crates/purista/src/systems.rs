//! The systems that carry messages, and by which schemes of URLs each is found.

use std::sync::Arc;

use purista_core::{
    Error, EventBridge, Result,
    adapter::{ServerUrl, Variables},
};

/// Makes a bridge of a URL, and of the environment if that counts as well.
type Open = fn(&str, Option<&Variables>) -> Result<Arc<dyn EventBridge>>;

/// A message system.
#[derive(Debug)]
pub(crate) struct System {
    name: &'static str,
    /// No two systems have one in common.
    schemes: &'static [&'static str],
    /// The feature that brings its adapter; without one, the adapter is always here, or not written yet.
    feature: Option<&'static str>,
    open: Option<Open>,
}

macro_rules! adapter {
    ($open:ident, $builder:path $(, $feature:literal)?) => {
        $(#[cfg(feature = $feature)])?
        const $open: Option<Open> = Some(|url, variables| {
            type Builder = $builder;
            let builder = match variables {
                Some(variables) => Builder::from_url_and_variables(url, variables),
                None => Builder::from_url(url),
            };
            Ok(Arc::new(builder?.build()?))
        });
        $(
            #[cfg(not(feature = $feature))]
            const $open: Option<Open> = None;
        )?
    };
}

adapter!(DEFAULT, purista_default::DefaultEventBridgeBuilder);
adapter!(NATS, purista_nats::NatsBridgeBuilder, "nats");
adapter!(AMQP, purista_amqp::AmqpBridgeBuilder, "amqp");
adapter!(MQTT, purista_mqtt::MqttBridgeBuilder, "mqtt");
adapter!(DAPR, purista_dapr::DaprBridgeBuilder, "dapr");

const fn with_feature(
    name: &'static str,
    schemes: &'static [&'static str],
    feature: &'static str,
    open: Option<Open>,
) -> System {
    System { name, schemes, feature: Some(feature), open }
}

/// Keeps the schemes of a system whose adapter is not written yet.
const fn to_come(name: &'static str, schemes: &'static [&'static str]) -> System {
    System { name, schemes, feature: None, open: None }
}

/// The scheme of the bridge within one process, which is a URL by itself.
const IN_PROCESS: &str = "default";

/// The system whose URLs may lack their scheme.
const BARE: &str = "NATS";

/// Where `ws`, `tls` or `http` would fit several systems, the full name begins with the one that is meant.
pub(crate) const SYSTEMS: &[System] = &[
    System { name: "one process", schemes: &[IN_PROCESS], feature: None, open: DEFAULT },
    with_feature(BARE, &["nats", "tls", "nats+tls"], "nats", NATS),
    with_feature("RabbitMQ", &["amqp", "amqps"], "amqp", AMQP),
    with_feature("MQTT", &["mqtt", "mqtts", "ws", "wss", "mqtt+ws", "mqtt+wss"], "mqtt", MQTT),
    with_feature("Dapr", &["dapr"], "dapr", DAPR),
    to_come("Knative", &["knative", "knative+http", "knative+https"]),
    to_come("AWS EventBridge", &["eventbridge"]),
    to_come("KubeMQ", &["kubemq", "kubemq+tls"]),
];

impl System {
    /// Finds the system of a URL.
    pub(crate) fn of(url: &str) -> Result<&'static Self> {
        let by = |scheme: &str| SYSTEMS.iter().find(|system| system.schemes.contains(&scheme));
        let named = |name: &str| SYSTEMS.iter().find(|system| system.name == name);
        if let Some(scheme) = ServerUrl::scheme_of(url) {
            return by(&scheme).ok_or_else(|| no_system(&scheme));
        }
        let word = url.split([':', '?', '/', ',', '@', '#']).next().unwrap_or_default();
        let (word, rest) = (word.to_ascii_lowercase(), &url[word.len()..]);
        if word == IN_PROCESS && (rest.is_empty() || rest.starts_with('?')) {
            return by(IN_PROCESS).ok_or_else(|| no_system(IN_PROCESS));
        }
        let bare = named(BARE).ok_or_else(|| no_system(BARE))?;
        match by(&word) {
            // A host may be called `nats`, and the server of another system hardly a server of NATS.
            Some(other) if other.name != BARE && rest.starts_with([':', '/']) => {
                Err(Error::invalid_config(format!(
                    "behind the scheme of a URL is ://; a server of NATS that is called {word} is at nats://{word}"
                )))
            }
            _ if url.is_empty() => Err(Error::invalid_config(
                "the URL of a bridge is empty; that of the bridge within one process is `default`",
            )),
            _ => Ok(bare),
        }
    }

    /// Makes a bridge.
    pub(crate) fn open(&self, url: &str, variables: Option<&Variables>) -> Result<Arc<dyn EventBridge>> {
        let Self { name, schemes, feature, open } = self;
        match (open, feature) {
            (Some(open), _) => open(url, variables),
            (None, Some(feature)) => Err(Error::invalid_config(format!(
                "{} URLs are those of {name}, which needs the feature `{feature}`: cargo add purista --features {feature}",
                listed(schemes)
            ))),
            (None, None) => Err(Error::invalid_config(format!(
                "{} URLs are those of {name}, whose adapter is not there yet; {}",
                listed(schemes),
                known()
            ))),
        }
    }
}

/// The scheme is not repeated: in a password with `://`, it would be its beginning.
fn no_system(scheme: &str) -> Error {
    Error::invalid_config(match scheme {
        "http" | "https" => {
            "several systems are at http://: a Dapr sidecar is at dapr://host:3500".to_owned()
        }
        _ => format!("no adapter has URLs of this scheme; {}", known()),
    })
}

fn known() -> String {
    let here = SYSTEMS.iter().filter(|system| system.open.is_some() || system.feature.is_some());
    let schemes: Vec<_> = here.flat_map(|system| system.schemes).copied().collect();
    format!("there are {}", listed(&schemes))
}

fn listed(schemes: &[&str]) -> String {
    let url = |scheme: &&str| match *scheme {
        IN_PROCESS => IN_PROCESS.to_owned(),
        scheme => format!("{scheme}://"),
    };
    schemes.iter().map(url).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_systems_share_a_scheme() {
        let all: Vec<_> = SYSTEMS.iter().flat_map(|system| system.schemes).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(SYSTEMS.len(), 8);
    }

    #[test]
    fn each_url_has_its_system() {
        let table = [
            ("default", "one process"),
            ("DEFAULT://", "one process"),
            ("default?instance_id=a", "one process"),
            ("nats://default", "NATS"),
            ("TLS://host", "NATS"),
            ("nats+tls://host", "NATS"),
            ("host", "NATS"),
            ("nats:4222", "NATS"),
            ("one,two?prefix=acme", "NATS"),
            ("default,other", "NATS"),
            ("ada:pw@host", "NATS"),
            ("amqps://host/vhost", "RabbitMQ"),
            ("ws://host", "MQTT"),
            ("mqtt+wss://host", "MQTT"),
            ("dapr://host", "Dapr"),
            ("knative+http://broker", "Knative"),
            ("eventbridge://eu-central-1?bus=orders", "AWS EventBridge"),
            ("kubemq://host", "KubeMQ"),
        ];
        for (url, name) in table {
            assert_eq!(System::of(url).expect(url).name, name, "{url}");
        }
        for (url, told) in [
            ("", "is empty"),
            ("redis://host", "there are default, nats://"),
            ("http://host", "dapr://host:3500"),
            ("https://host", "dapr://host:3500"),
            ("amqp:host", "nats://amqp"),
            ("mqtt:1883", "nats://mqtt"),
            ("dapr:", "nats://dapr"),
            ("default:4222", "nats://default"),
            ("default/x", "nats://default"),
        ] {
            let error = System::of(url).expect_err(url);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{url}");
            assert!(error.to_string().contains(told), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |system: &System, url| system.open(url, None).unwrap_err().to_string();
        for system in SYSTEMS.iter().filter(|system| system.feature.is_some()) {
            let feature = system.feature.unwrap();
            let off = with_feature(system.name, system.schemes, feature, None);
            let error = without(&off, "nats://ada:secret@host");
            assert!(error.contains(&format!("cargo add purista --features {feature}")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let to_come = SYSTEMS.iter().filter(|system| system.feature.is_none() && system.open.is_none());
        let to_come: Vec<_> = to_come.map(|system| without(system, "kubemq://host")).collect();
        assert_eq!(to_come.len(), 3);
        for error in to_come {
            assert!(error.contains("not there yet; there are default, nats://"), "{error}");
        }
    }

    #[test]
    fn a_feature_brings_its_adapter() {
        let is_on = |feature| match feature {
            "nats" => cfg!(feature = "nats"),
            "amqp" => cfg!(feature = "amqp"),
            "mqtt" => cfg!(feature = "mqtt"),
            "dapr" => cfg!(feature = "dapr"),
            other => panic!("{other}"),
        };
        for system in SYSTEMS {
            if let Some(feature) = system.feature {
                assert_eq!(system.open.is_some(), is_on(feature), "{feature}");
            }
        }
    }
}
