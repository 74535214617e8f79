use std::fmt::Write as _;

use super::{encode, node::Ports};
use crate::Certificates;

/// How often queues tell their figures. RabbitMQ's default is five seconds, also for how often the management API
/// collects what there is of connections and consumers; that is a second here, the least it can be.
const STATISTICS_INTERVAL_MS: u16 = 100;

/// More than any machine has, so that its memory never blocks publishers.
pub(super) const MEMORY_WATERMARK: &str = "1TB";

/// The configuration of a server. What is not said here is RabbitMQ's default, except that no limit of memory or disk
/// is reached and figures are fresh.
#[derive(Clone, Debug, Default)]
pub struct RabbitConfig {
    user: Option<(String, String)>,
    lines: Vec<String>,
    certificates: Option<Certificates>,
    lacks_features: bool,
}

impl RabbitConfig {
    /// Adds lines to `rabbitmq.conf`; they outweigh those that say something else.
    #[must_use]
    pub fn with_lines(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }

    /// Makes this the default user, instead of `guest`.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Encrypts all connections of clients, and asks for certificates if these say so.
    #[must_use]
    pub fn with_tls(mut self, certificates: &Certificates) -> Self {
        self.certificates = Some(certificates.clone());
        self
    }

    /// Leaves out all that RabbitMQ switches on by feature flags, such as quorum queues.
    #[must_use]
    pub const fn without_features(mut self) -> Self {
        self.lacks_features = true;
        self
    }

    pub(super) const fn lacks_features(&self) -> bool {
        self.lacks_features
    }

    pub(super) fn user(&self) -> (&str, &str) {
        self.user.as_ref().map_or(("guest", "guest"), |(name, password)| (name, password))
    }

    /// Returns what stands before the host in the URL for clients.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.has_tls() { "amqps" } else { "amqp" };
        let (name, password) = self.user();
        format!("{scheme}://{}:{}@", encode(name), encode(password))
    }

    pub(super) const fn has_tls(&self) -> bool {
        self.certificates.is_some()
    }

    /// Writes `rabbitmq.conf`. The name tells this server from another one that took its port.
    pub(super) fn text(&self, cluster: &str, ports: Ports) -> String {
        let Ports { client, management, .. } = ports;
        let (user, password) = self.user();
        let mut text = format!(
            "cluster_name = {cluster}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\n\
             default_user = {user}\n\
             default_pass = {password}\n\
             loopback_users = none\n\
             collect_statistics_interval = {STATISTICS_INTERVAL_MS}\n\
             management.sample_retention_policies.basic.minute = 1\n\
             management.sample_retention_policies.detailed.minute = 1\n\
             management.sample_retention_policies.global.minute = 5\n\
             vm_memory_high_watermark.absolute = {MEMORY_WATERMARK}\n\
             disk_free_limit.absolute = 1MB\n\
             log.console = true\n\
             log.console.use_colors = off\n\
             log.file = false\n"
        );
        text += &match &self.certificates {
            None => format!("listeners.tcp.1 = 127.0.0.1:{client}\n"),
            Some(certificates) => tls(certificates, client),
        };
        for lines in &self.lines {
            _ = writeln!(text, "{lines}");
        }
        text
    }
}

fn tls(certificates: &Certificates, port: u16) -> String {
    let files = certificates.broker();
    let asks = certificates.client_authority().is_some();
    format!(
        "listeners.tcp = none\n\
         listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {authority}\n\
         ssl_options.certfile = {certificate}\n\
         ssl_options.keyfile = {key}\n\
         ssl_options.verify = {verify}\n\
         ssl_options.fail_if_no_peer_cert = {asks}\n",
        authority = certificates.authority().display(),
        certificate = files.certificate.display(),
        key = files.key.display(),
        verify = if asks { "verify_peer" } else { "verify_none" },
    )
}
