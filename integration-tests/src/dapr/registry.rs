use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tempfile::TempDir;

/// Where the sidecars of one deployment find each other. A sidecar that is killed is found for five more seconds.
#[derive(Clone, Debug)]
pub struct Registry {
    _folder: Arc<TempDir>,
    file: PathBuf,
}

impl Registry {
    /// Creates an empty one. It is removed with the last configuration of a sidecar that uses it.
    ///
    /// # Errors
    ///
    /// If there is no temporary folder.
    pub fn new() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("purista-dapr-registry-").context("temporary folder")?;
        let file = folder.path().join("sidecars.db");
        Ok(Self { _folder: Arc::new(folder), file })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}
