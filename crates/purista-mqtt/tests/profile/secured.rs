use std::{fs, path::PathBuf};

use purista_conformance::{BrokerCertificate, ClientCertificate, FORBIDDEN_EVENT, Login, SECRET, Security};
use purista_core::Result;
use purista_integration_tests::{Certificates, mosquitto::MosquittoConfig};
use purista_mqtt::MqttBridgeBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::wire::{command_filter, events_named, unavailable};

pub(crate) const USER: &str = "ada";

/// What the only user may do.
pub(crate) const ROLE: &str = "bridge";

/// A server that is secured, and bridges that are right about it or not.
pub(crate) enum Secured {
    /// Certificates, and whether the server uses them.
    Tls(Certificates, bool),
    /// The folder of what the only user may do, and whether bridges know the password.
    Login(TempDir, bool),
}

impl Secured {
    pub(crate) fn new(security: Security, prefix: &str) -> Result<Self> {
        Ok(match security {
            Security::Tls(BrokerCertificate::Absent, client) => {
                Self::Tls(create(BrokerCertificate::Trusted, client)?, false)
            }
            Security::Tls(broker, client) => Self::Tls(create(broker, client)?, true),
            Security::Login(login) => {
                let folder = TempDir::with_prefix("purista-mqtt-roles-").map_err(unavailable)?;
                fs::write(roles_of(&folder), roles(login, prefix).to_string()).map_err(unavailable)?;
                Self::Login(folder, login != Login::WrongPassword)
            }
            other => return Err(unavailable(format!("unknown: {other:?}"))),
        })
    }

    /// Who may do what is for Mosquitto's own plugin to say: its access list accepts each subscription, and delivers
    /// nothing to those that it forbids.
    pub(crate) fn configure_server(&self, config: MosquittoConfig) -> MosquittoConfig {
        match self {
            Self::Tls(certificates, true) => config.with_tls(certificates),
            Self::Tls(_, false) => config,
            Self::Login(folder, _) => config.with_user(USER, password()).with_lines(format!(
                "plugin mosquitto_dynamic_security.so\nplugin_opt_config_file {}\n",
                roles_of(folder).display()
            )),
        }
    }

    pub(crate) fn configure_bridge(&self, builder: MqttBridgeBuilder) -> MqttBridgeBuilder {
        match self {
            Self::Tls(certificates, _) => {
                let builder = builder.root_certificates(certificates.authority());
                match certificates.client() {
                    Some(files) => builder.client_certificate(files.certificate, files.key),
                    None => builder,
                }
            }
            Self::Login(_, true) => builder.user_and_password(USER, password()),
            Self::Login(_, false) => builder.user_and_password(USER, format!("{}, wrong", password())),
        }
    }

    /// Returns whether bridges are told to encrypt.
    pub(crate) const fn wants_tls(&self) -> bool {
        matches!(self, Self::Tls(..))
    }
}

fn roles_of(folder: &TempDir) -> PathBuf {
    folder.path().join("dynamic-security.json")
}

/// Says that the user may do everything but one thing.
fn roles(login: Login, prefix: &str) -> Value {
    let forbidden = match login {
        Login::MayNotPublish => {
            json!([{ "acltype": "publishClientSend", "topic": format!("{prefix}/custom_message/#"), "allow": false }])
        }
        Login::MayNotPublishOneEvent => {
            json!([{
                "acltype": "publishClientSend", "topic": events_named(prefix, FORBIDDEN_EVENT), "allow": false,
            }])
        }
        Login::MayNotSubscribe => {
            let commands = command_filter(prefix, "+", "+", "echo");
            json!([{ "acltype": "subscribePattern", "topic": commands, "allow": false }])
        }
        _ => json!([]),
    };
    json!({
        "defaultACLAccess": {
            "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true,
        },
        "clients": [{ "username": USER, "roles": [{ "rolename": ROLE }] }],
        "roles": [{ "rolename": ROLE, "acls": forbidden }],
    })
}

fn create(broker: BrokerCertificate, client: ClientCertificate) -> Result<Certificates> {
    Certificates::create(broker, client).map_err(unavailable)
}

/// Returns the password of the only user.
pub(crate) fn password() -> String {
    format!("{SECRET} of {USER}")
}
