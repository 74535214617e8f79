use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use purista_amqp::AmqpBridge;
use purista_core::EventBridge;
use purista_dapr::DaprBridge;
use purista_integration_tests::{
    Certificates, Process,
    dapr::{Component, Registry, Sidecar, SidecarConfig},
    free_port,
    mosquitto::{MosquittoConfig, MosquittoServer},
    nats::{NatsConfig, NatsServer},
    rabbitmq::{RabbitConfig, RabbitServer},
};
use purista_mqtt::MqttBridge;
use purista_nats::NatsBridge;

/// What bridges of these trials take for lost, and how long they wait to connect again.
const SILENCE: Duration = Duration::from_secs(2);
const MAX_DELAY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nats,
    Amqp,
    Mqtt,
    Dapr,
}

/// What a bridge connects to; it ends with this.
pub(crate) enum Broker {
    Nats(NatsServer),
    Amqp(RabbitServer),
    Mqtt(MosquittoServer),
    /// The sidecar of the caller, and the one beside the worker.
    Dapr(Box<Sidecar>, Box<Sidecar>),
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Nats, Self::Amqp, Self::Mqtt, Self::Dapr];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::Dapr => "dapr",
        }
    }

    pub(crate) async fn start(self, certificates: Option<&Certificates>) -> anyhow::Result<Broker> {
        Ok(match self {
            Self::Nats => {
                let config = NatsConfig::jetstream();
                let config = certificates.map_or(config.clone(), |files| config.with_tls(files));
                Broker::Nats(NatsServer::start(config).await?)
            }
            Self::Amqp => {
                let config = RabbitConfig::default();
                let config = certificates.map_or(config.clone(), |files| config.with_tls(files));
                Broker::Amqp(RabbitServer::start(config).await?)
            }
            Self::Mqtt => {
                let config = MosquittoConfig::tuned();
                let config = certificates.map_or(config.clone(), |files| config.with_tls(files));
                Broker::Mqtt(MosquittoServer::start(config).await?)
            }
            Self::Dapr => {
                let registry = Registry::new()?;
                let start = async |app_id| {
                    let (port, component) = (free_port()?, Component::InMemory);
                    Sidecar::start(SidecarConfig::new(app_id, port, component, &registry)).await
                };
                let (caller, worker) = (start("app-caller-v1").await?, start("app-worker-v1").await?);
                Broker::Dapr(Box::new(caller), Box::new(worker))
            }
        })
    }
}

impl Broker {
    /// Returns the URL for the caller.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Nats(server) => server.url().to_owned(),
            Self::Amqp(server) => server.url().to_owned(),
            Self::Mqtt(server) => server.url().to_owned(),
            Self::Dapr(sidecar, _) => sidecar.url().replace("http://", "dapr://"),
        }
    }

    /// Returns what the worker connects to.
    pub(crate) const fn address(&self) -> SocketAddr {
        match self {
            Self::Nats(server) => server.address(),
            Self::Amqp(server) => server.address(),
            Self::Mqtt(server) => server.address(),
            Self::Dapr(_, sidecar) => sidecar.address(),
        }
    }

    /// Returns the URL for the worker, with this host and port.
    pub(crate) fn url_at(&self, place: &str) -> String {
        match self {
            Self::Nats(_) => format!("nats://{place}"),
            Self::Amqp(_) => format!("amqp://guest:guest@{place}"),
            Self::Mqtt(_) => format!("mqtt://{place}"),
            Self::Dapr(..) => format!("dapr://{place}"),
        }
    }

    pub(crate) fn process(&self) -> anyhow::Result<&Process> {
        match self {
            Self::Nats(server) => server.process(),
            Self::Amqp(server) => server.process(),
            Self::Mqtt(server) => Ok(server.process()),
            Self::Dapr(sidecar, _) => Ok(sidecar.process()),
        }
    }
}

/// What a bridge needs to be sure of its broker, and its broker of it.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// Returns those that were issued.
    pub(crate) fn of(certificates: &Certificates) -> anyhow::Result<Self> {
        let client = certificates.client().context("the bridge has no certificate")?;
        Ok(Self { authority: certificates.authority(), certificate: client.certificate, key: client.key })
    }
}

/// Builds a bridge for a URL.
pub(crate) fn bridge(url: &str, files: Option<&Files>) -> anyhow::Result<Arc<dyn EventBridge>> {
    macro_rules! secured {
        ($builder:expr) => {{
            let mut builder = $builder.max_reconnect_delay(MAX_DELAY);
            if let Some(files) = files {
                builder = builder.root_certificates(&files.authority);
                builder = builder.client_certificate(&files.certificate, &files.key);
            }
            Arc::new(builder.build()?)
        }};
    }
    let (scheme, _) = url.split_once("://").context("no URL")?;
    Ok(match scheme {
        "nats" | "tls" => secured!(NatsBridge::builder(url).keep_alive(SILENCE)),
        "amqp" | "amqps" => secured!(AmqpBridge::builder(url).keep_alive(SILENCE)),
        "mqtt" | "mqtts" => {
            let builder = MqttBridge::builder(url).persistent_sessions(Duration::from_secs(600));
            secured!(builder.keep_alive(SILENCE))
        }
        "dapr" => {
            let builder = DaprBridge::builder(url).keep_alive(SILENCE);
            Arc::new(builder.max_reconnect_delay(MAX_DELAY).build()?)
        }
        other => bail!("no bridge for {other}"),
    })
}
