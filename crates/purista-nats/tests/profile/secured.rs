use purista_conformance::{BrokerCertificate, ClientCertificate, FORBIDDEN_EVENT, Login, SECRET, Security};
use purista_core::Result;
use purista_integration_tests::{Certificates, nats::NatsConfig};
use purista_nats::NatsBridgeBuilder;

use super::wire::unavailable;

pub(super) const USER: &str = "ada";

/// A server that is secured, and bridges that are right about it or not.
pub(crate) enum Secured {
    /// Certificates, and whether the server uses them.
    Tls(Certificates, bool),
    /// The permissions of the only user, and whether bridges know the password.
    Login(String, bool),
}

impl Secured {
    pub(crate) fn new(security: Security, prefix: &str) -> Result<Self> {
        Ok(match security {
            Security::Tls(BrokerCertificate::Absent, client) => {
                Self::Tls(create(BrokerCertificate::Trusted, client)?, false)
            }
            Security::Tls(broker, client) => Self::Tls(create(broker, client)?, true),
            Security::Login(login) => {
                // Not to subscribe to a command at all would also forbid subscriptions that see commands among others.
                let permissions = match login {
                    Login::MayNotPublish => format!("publish: {{ deny: \"{prefix}.custom_message.>\" }}"),
                    Login::MayNotPublishOneEvent => {
                        format!(
                            "publish: {{ deny: \"{prefix}.custom_message.*.*.*.*.*.*.{FORBIDDEN_EVENT}.>\" }}"
                        )
                    }
                    Login::MayNotSubscribe => {
                        format!("subscribe: {{ deny: \"{prefix}.command.*.*.*.*.*.*.*.*.*.*.echo\" }}")
                    }
                    _ => String::new(),
                };
                Self::Login(permissions, login != Login::WrongPassword)
            }
            other => return Err(unavailable(format!("unknown: {other:?}"))),
        })
    }

    pub(crate) fn configure_server(&self, config: NatsConfig) -> NatsConfig {
        match self {
            Self::Tls(certificates, true) => config.with_tls(certificates),
            Self::Tls(_, false) => config,
            Self::Login(permissions, _) => config.with_lines(format!(
                "authorization {{ users: [ {{ user: {USER}, password: \"{}\", permissions: {{ {permissions} }} }} ] }}",
                password()
            )),
        }
    }

    pub(crate) fn configure_bridge(&self, builder: NatsBridgeBuilder) -> NatsBridgeBuilder {
        match self {
            Self::Tls(certificates, _) => {
                let builder = builder.require_tls().root_certificates(certificates.authority());
                match certificates.client() {
                    Some(files) => builder.client_certificate(files.certificate, files.key),
                    None => builder,
                }
            }
            Self::Login(_, true) => builder.user_and_password(USER, password()),
            Self::Login(_, false) => builder.user_and_password(USER, format!("{}, wrong", password())),
        }
    }
}

fn create(broker: BrokerCertificate, client: ClientCertificate) -> Result<Certificates> {
    Certificates::create(broker, client).map_err(unavailable)
}

pub(super) fn password() -> String {
    format!("{SECRET} of {USER}")
}
