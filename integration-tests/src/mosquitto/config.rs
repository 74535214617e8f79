use std::{fmt::Write as _, path::Path};

use super::HARNESS;
use crate::Certificates;

/// What Debian's package configures, other than where its files are.
const STOCK: &str = "persistence true\n";

/// What the adapter ships.
const TUNED: &str = include_str!("../../../crates/purista-mqtt/mosquitto.conf");

/// What the server tells: no debug, as trials move many messages.
const LOG: &str = "\
log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
log_type unsubscribe
connection_messages true
";

/// The configuration of a server. What is not said here is Mosquitto's default, except that it logs what
/// [`MosquittoServer`](super::MosquittoServer) reads and that its figures are fresh.
#[derive(Clone, Debug)]
pub struct MosquittoConfig {
    base: &'static str,
    lines: Vec<String>,
    users: Vec<(String, String)>,
    acl: Option<String>,
    certificates: Option<Certificates>,
    websockets: bool,
    kept: Option<fn(&str) -> bool>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    /// For the harness: without encryption and certificates.
    pub(super) harness: u16,
    pub(super) websockets: Option<u16>,
}

/// Files that the server reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    pub(super) data: &'a Path,
    pub(super) passwords: &'a Path,
    pub(super) acl: &'a Path,
}

impl MosquittoConfig {
    /// Configures a server as Debian's package does: it saves its data when it ends and every half an hour.
    #[must_use]
    pub const fn stock() -> Self {
        Self::new(STOCK)
    }

    /// Configures a server as the adapter ships it, in `crates/purista-mqtt/mosquitto.conf`.
    #[must_use]
    pub const fn tuned() -> Self {
        Self::new(TUNED)
    }

    const fn new(base: &'static str) -> Self {
        Self {
            base,
            lines: Vec::new(),
            users: Vec::new(),
            acl: None,
            certificates: None,
            websockets: false,
            kept: None,
        }
    }

    /// Adds lines to the configuration file, after those of the listener for clients. Most settings may be there more
    /// than once, and the last one counts.
    #[must_use]
    pub fn with_lines(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }

    /// Adds a user, and lets nobody connect who is none.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Lets users do only what this access control list says.
    #[must_use]
    pub fn with_acl(mut self, text: impl Into<String>) -> Self {
        self.acl = Some(text.into());
        self
    }

    /// Encrypts all connections of clients, and asks for certificates if these say so.
    #[must_use]
    pub fn with_tls(mut self, certificates: &Certificates) -> Self {
        self.certificates = Some(certificates.clone());
        self
    }

    /// Adds a listener for WebSockets, which not each build of Mosquitto has.
    #[must_use]
    pub const fn with_websockets(mut self) -> Self {
        self.websockets = true;
        self
    }

    /// Says which clients have sessions that outlive their connections. Only
    /// [`subscriptions`](super::MosquittoServer::subscriptions) needs to know: the server does not log how long a session
    /// lives, so those are taken for kept that are begun without a clean start.
    #[must_use]
    pub const fn with_kept(mut self, kept: fn(&str) -> bool) -> Self {
        self.kept = Some(kept);
        self
    }

    pub(super) const fn kept(&self) -> Option<fn(&str) -> bool> {
        self.kept
    }

    pub(super) const fn has_websockets(&self) -> bool {
        self.websockets
    }

    pub(super) const fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "mqtts" } else { "mqtt" }
    }

    pub(super) const fn websocket_scheme(&self) -> &'static str {
        if self.certificates.is_some() { "wss" } else { "ws" }
    }

    /// Writes the access control list, if there is one.
    pub(super) fn acl(&self) -> Option<String> {
        self.acl.as_ref().map(|text| format!("{text}\n\nuser {HARNESS}\ntopic read $SYS/#\n"))
    }

    /// Returns the users with their passwords.
    pub(super) fn users(&self) -> impl Iterator<Item = (&str, &str)> {
        let users = self.users.iter().map(|(name, password)| (name.as_str(), password.as_str()));
        users.chain((!self.users.is_empty()).then_some((HARNESS, HARNESS)))
    }

    /// Writes the configuration file.
    pub(super) fn text(&self, ports: Ports, files: Files<'_>) -> String {
        let Files { data, passwords, acl } = files;
        let mut text =
            format!("{}\n{LOG}sys_interval 1\npersistence_location {}/\n", self.base, data.display());
        // Only where this is root: it would become a user who may not write to the folder.
        text += "user root\n";
        _ = writeln!(text, "allow_anonymous {}", self.users.is_empty());
        if !self.users.is_empty() {
            _ = writeln!(text, "password_file {}", passwords.display());
        }
        if self.acl.is_some() {
            _ = writeln!(text, "acl_file {}", acl.display());
        }
        let tls = self.certificates.as_ref().map(tls).unwrap_or_default();
        _ = writeln!(text, "listener {} 127.0.0.1", ports.harness);
        if let Some(port) = ports.websockets {
            _ = writeln!(text, "listener {port} 127.0.0.1\nprotocol websockets\n{tls}");
        }
        _ = writeln!(text, "listener {} 127.0.0.1\n{tls}", ports.client);
        for lines in &self.lines {
            _ = writeln!(text, "{lines}");
        }
        text
    }
}

fn tls(certificates: &Certificates) -> String {
    let files = certificates.broker();
    let mut lines = format!("certfile {}\nkeyfile {}\n", files.certificate.display(), files.key.display());
    if let Some(authority) = certificates.client_authority() {
        lines += &format!("cafile {}\nrequire_certificate true\n", authority.display());
    }
    lines
}
