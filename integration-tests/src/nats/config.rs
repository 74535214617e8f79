use std::path::Path;

use super::server::Ports;
use crate::Certificates;

/// The configuration of a server. What is not said here is nats-server's default.
#[derive(Clone, Debug, Default)]
pub struct NatsConfig {
    jetstream: bool,
    jetstream_lines: Vec<String>,
    lines: Vec<String>,
    certificates: Option<Certificates>,
}

impl NatsConfig {
    /// Configures a server without JetStream.
    #[must_use]
    pub fn core() -> Self {
        Self::default()
    }

    /// Configures a server with JetStream.
    #[must_use]
    pub fn jetstream() -> Self {
        Self { jetstream: true, ..Self::default() }
    }

    /// Adds lines to the configuration file.
    #[must_use]
    pub fn with_lines(mut self, lines: impl Into<String>) -> Self {
        self.lines.push(lines.into());
        self
    }

    /// Adds lines to the part of JetStream, instead of the room that there is otherwise.
    #[must_use]
    pub fn with_jetstream(mut self, lines: impl Into<String>) -> Self {
        self.jetstream_lines.push(lines.into());
        self
    }

    /// Encrypts connections, and asks for certificates if these say so.
    #[must_use]
    pub fn with_tls(mut self, certificates: &Certificates) -> Self {
        let files = certificates.broker();
        let mut lines = format!("cert_file: {:?}\nkey_file: {:?}\n", files.certificate, files.key);
        if let Some(authority) = certificates.client_authority() {
            lines += &format!("ca_file: {authority:?}\nverify: true\n");
        }
        self.certificates = Some(certificates.clone());
        // The default of two seconds is short for a machine that is busy with tests.
        self.with_lines(format!("tls {{\n{lines}timeout: 10\n}}"))
    }

    pub(super) const fn scheme(&self) -> &'static str {
        if self.certificates.is_some() { "tls" } else { "nats" }
    }

    pub(super) const fn has_jetstream(&self) -> bool {
        self.jetstream
    }

    /// Writes the configuration file. The name tells this server from another one that took its port.
    pub(super) fn text(&self, name: &str, host: &str, ports: Ports, data: &Path) -> String {
        let Ports { client, monitor } = ports;
        let mut text =
            format!("server_name: {name:?}\nlisten: \"{host}:{client}\"\nhttp: \"{host}:{monitor}\"\n");
        if self.jetstream {
            // Streams reserve what they may take, and many trials share a server: the disk's room is no limit for that.
            let mut lines = vec!["max_file_store: 1TB".to_owned()];
            if !self.jetstream_lines.is_empty() {
                lines.clone_from(&self.jetstream_lines);
            }
            text += &format!("jetstream {{\nstore_dir: {data:?}\n{}\n}}\n", lines.join("\n"));
        }
        for lines in &self.lines {
            text += lines;
            text += "\n";
        }
        text
    }
}
