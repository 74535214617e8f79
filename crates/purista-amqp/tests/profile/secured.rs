use purista_amqp::AmqpBridgeBuilder;
use purista_conformance::{BrokerCertificate, ClientCertificate, FORBIDDEN_EVENT, Login, SECRET, Security};
use purista_core::Result;
use purista_integration_tests::{
    Certificates,
    rabbitmq::{RabbitConfig, RabbitServer},
};

use super::{DEFAULT_VHOST, wire::unavailable};

pub(crate) const USER: &str = "ada";

/// A server that is secured, and bridges that are right about it or not.
pub(crate) enum Secured {
    /// Certificates, and whether the server uses them.
    Tls(Certificates, bool),
    Login(Login),
}

impl Secured {
    pub(crate) fn new(security: Security) -> Result<Self> {
        Ok(match security {
            Security::Tls(BrokerCertificate::Absent, client) => {
                Self::Tls(create(BrokerCertificate::Trusted, client)?, false)
            }
            Security::Tls(broker, client) => Self::Tls(create(broker, client)?, true),
            Security::Login(login) => Self::Login(login),
            other => return Err(unavailable(format!("unknown: {other:?}"))),
        })
    }

    pub(crate) fn configure_server(&self, config: RabbitConfig) -> RabbitConfig {
        match self {
            Self::Tls(certificates, true) => config.with_tls(certificates),
            Self::Tls(..) | Self::Login(_) => config,
        }
    }

    /// Creates the user, with what it may do.
    pub(crate) async fn prepare(&self, server: &RabbitServer, prefix: &str) -> Result<()> {
        let Self::Login(login) = self else { return Ok(()) };
        let (all, management) = (".*".to_owned(), server.management());
        let (configure, write) = match login {
            Login::MayNotPublish => (all.clone(), format!("^(?!{prefix}(\\.events)?$)")),
            Login::MayNotSubscribe => (format!("^(?!{prefix}\\.(command|cmd)\\.)"), all.clone()),
            _ => (all.clone(), all.clone()),
        };
        management.put_user(USER, &password()).await.map_err(unavailable)?;
        let set = management.set_permissions(DEFAULT_VHOST, USER, &configure, &write, &all).await;
        set.map_err(unavailable)?;
        if *login == Login::MayNotPublishOneEvent {
            let (exchange, write) = (format!("{prefix}.events"), format!("^(?!event-{FORBIDDEN_EVENT}$)"));
            let set = management.set_topic_permissions(DEFAULT_VHOST, USER, &exchange, &write, &all).await;
            set.map_err(unavailable)?;
        }
        Ok(())
    }

    pub(crate) fn configure_bridge(&self, builder: AmqpBridgeBuilder) -> AmqpBridgeBuilder {
        match self {
            Self::Tls(certificates, _) => {
                let builder = builder.root_certificates(certificates.authority());
                match certificates.client() {
                    Some(files) => builder.client_certificate(files.certificate, files.key),
                    None => builder,
                }
            }
            Self::Login(Login::WrongPassword) => {
                builder.user_and_password(USER, format!("{}, wrong", password()))
            }
            Self::Login(_) => builder.user_and_password(USER, password()),
        }
    }

    /// Returns whether bridges are told to encrypt.
    pub(crate) const fn wants_tls(&self) -> bool {
        matches!(self, Self::Tls(..))
    }
}

fn create(broker: BrokerCertificate, client: ClientCertificate) -> Result<Certificates> {
    Certificates::create(broker, client).map_err(unavailable)
}

fn password() -> String {
    format!("{SECRET} of {USER}")
}
