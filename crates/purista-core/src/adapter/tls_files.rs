use std::path::PathBuf;

/// The files by which connections are encrypted; without any, the authorities of the system are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificates of authorities that are trusted beside those of the system.
    pub root_certificates: Option<PathBuf>,
    /// The certificate by which the bridge authenticates, and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Returns whether there are any.
    #[must_use]
    pub const fn are_given(&self) -> bool {
        self.root_certificates.is_some() || self.client_certificate.is_some()
    }
}
