use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use purista_core::{
    Capability, Error, Result, ServiceAddress,
    adapter::{ServerUrl, UrlScheme},
};
use secrecy::SecretString;
use url::Url;

use crate::{
    address::{self, is_topic},
    component,
};

/// The topic that is ours to see whether a component works.
const HEALTH_TOPIC: &str = "purista-health";

/// What an envelope, or what a dead letter tells beside it, needs beside the payload at the most.
pub(crate) const ENVELOPE: usize = 64 * 1_024;

/// All that is configured about the sidecar, the app channel and the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) sidecar: Url,
    pub(crate) app_address: Option<SocketAddr>,
    pub(crate) app_id: Option<String>,
    pub(crate) app_ids: AppIds,
    pub(crate) pubsub_name: String,
    pub(crate) component_type: Option<String>,
    pub(crate) component_gives: Vec<Capability>,
    pub(crate) all_messages_topic: Option<String>,
    pub(crate) dead_letter_topic: String,
    pub(crate) health_topic: HealthTopic,
    pub(crate) api_token: Option<SecretString>,
    pub(crate) app_token: Option<SecretString>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) max_reconnect_delay: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) max_payload: usize,
}

/// By which topic it is seen whether the component works.
#[derive(Clone, Debug)]
pub(crate) enum HealthTopic {
    /// By one of ours if it is known that the component keeps nothing of it.
    ByComponent,
    Named(String),
    None,
}

/// Finds the app id of a service.
#[derive(Clone)]
pub(crate) struct AppIds(Arc<dyn Fn(&ServiceAddress) -> String + Send + Sync>);

impl AppIds {
    pub(crate) fn new(find: impl Fn(&ServiceAddress) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    pub(crate) fn find(&self, service: &ServiceAddress) -> String {
        (self.0)(service)
    }
}

impl fmt::Debug for AppIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppIds")
    }
}

impl Config {
    /// The schemes of sidecars, which have no TLS.
    pub(crate) const SCHEMES: &[UrlScheme] = &[UrlScheme::plain("dapr", 3_500), UrlScheme::plain("http", 80)];

    /// What the query of a URL can say beside options.
    pub(crate) const PARAMETERS: &[&str] = &[];

    /// Takes the defaults, for the URL of a sidecar.
    pub(crate) fn new(sidecar: &str) -> Result<Self> {
        Ok(Self {
            sidecar: sidecar_url(sidecar)?,
            app_address: None,
            app_id: None,
            app_ids: AppIds::new(address::app_id),
            pubsub_name: "pubsub".to_owned(),
            component_type: None,
            component_gives: Vec::new(),
            all_messages_topic: None,
            dead_letter_topic: "purista-dead-letter".to_owned(),
            health_topic: HealthTopic::ByComponent,
            api_token: None,
            app_token: None,
            connect_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(5),
            max_reconnect_delay: Duration::from_secs(2),
            header_timeout: Duration::from_secs(120),
            max_payload: 1_024 * 1_024,
        })
    }

    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<()> {
        let times = [self.connect_timeout, self.keep_alive, self.max_reconnect_delay, self.header_timeout];
        if times.iter().any(Duration::is_zero) || self.max_payload == 0 {
            return Err(Error::invalid_config("limits and times must be greater than zero"));
        }
        if self.max_payload > usize::MAX / 4 {
            return Err(Error::invalid_config("payloads of that size do not fit into this machine's memory"));
        }
        if self.pubsub_name.is_empty() || self.app_id.as_ref().is_some_and(String::is_empty) {
            return Err(Error::invalid_config("the names of a component and of an app are not empty"));
        }
        let health_topic = match &self.health_topic {
            HealthTopic::Named(topic) => Some(topic),
            HealthTopic::ByComponent | HealthTopic::None => None,
        };
        let topics = self.all_messages_topic.iter().chain([&self.dead_letter_topic]).chain(health_topic);
        if !topics.into_iter().all(|topic| is_topic(topic)) {
            return Err(Error::invalid_config(
                "a topic has up to 127 letters, digits, dots, dashes and underscores",
            ));
        }
        let [all, dead] = [self.all_messages_topic.as_ref(), Some(&self.dead_letter_topic)];
        if all == dead || (health_topic.is_some() && [all, dead].contains(&health_topic)) {
            return Err(Error::invalid_config("dead letters, all messages and health need a topic each"));
        }
        if !self.component_gives.iter().copied().all(component::is_configurable) {
            return Err(Error::invalid_config("a component gives something that does not depend on it"));
        }
        Ok(())
    }

    /// Returns the topic of an event on a component of a type.
    pub(crate) fn topic(&self, event_name: &str, component_type: Option<&str>) -> String {
        let all_messages = self.all_messages_topic.as_deref().unwrap_or_default();
        let health = match &self.health_topic {
            HealthTopic::Named(topic) => topic,
            HealthTopic::ByComponent | HealthTopic::None => HEALTH_TOPIC,
        };
        let takes_all = component_type.is_some_and(component::takes_all_topics);
        address::topic(event_name, &[all_messages, &self.dead_letter_topic, health], takes_all)
    }

    /// Returns the topic by which it is seen whether a component of a type works.
    pub(crate) fn health_topic(&self, component_type: Option<&str>) -> Option<&str> {
        match &self.health_topic {
            HealthTopic::Named(topic) => Some(topic),
            HealthTopic::ByComponent if component_type == Some(component::RABBITMQ) => Some(HEALTH_TOPIC),
            HealthTopic::ByComponent | HealthTopic::None => None,
        }
    }

    /// Returns the largest body that comes or goes: JSON may need two characters for one, and names stand in it twice.
    pub(crate) const fn max_body(&self) -> usize {
        2 * (self.max_payload + ENVELOPE)
    }
}

/// Reads the URL of a sidecar, and writes it as that of an HTTP server.
fn sidecar_url(url: &str) -> Result<Url> {
    let server = ServerUrl::parse(url, Config::SCHEMES)?;
    server.without_path()?;
    server.without_query()?;
    if server.user_info().is_some() {
        return Err(Error::invalid_config("a sidecar is shown a token, not a user and a password"));
    }
    let not_http = || Error::invalid_config("the host of the sidecar's URL is not one of HTTP");
    let host = server.authority_with_port();
    let http = Url::parse(&format!("http://{host}/")).map_err(|_| not_http())?;
    Ok(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_has_a_host_and_a_port() {
        for (url, sidecar) in [
            ("dapr://127.0.0.1:3501", "http://127.0.0.1:3501/"),
            ("dapr://localhost", "http://localhost:3500/"),
            ("http://[::1]:80/", "http://[::1]/"),
            ("http://host", "http://host/"),
            ("DAPR://Side_Car.example:65535", "http://side_car.example:65535/"),
            ("dapr://[::FFFF:127.0.0.1]", "http://[::ffff:7f00:1]:3500/"),
        ] {
            assert_eq!(Config::new(url).unwrap().sidecar.as_str(), sidecar);
        }
        for url in [
            "",
            "dapr://",
            "https://host",
            "dapr://secret@host",
            "dapr://@host",
            "dapr://host:port",
            "dapr://host:0",
            "dapr://host/path",
            "dapr://host?x=secret",
            "dapr://host#secret",
            "dapr://one,dapr://two",
            "dapr://127.1",
            "dapr://[::1%25lo]",
        ] {
            let error = Config::new(url).expect_err(url);
            assert_eq!(error.kind(), purista_core::ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
