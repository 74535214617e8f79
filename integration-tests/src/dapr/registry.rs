use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tempfile::TempDir;

/// Where the sidecars of one deployment find each other. A sidecar that is killed is found for five more seconds.
#[derive(Clone, Debug)]
pub struct Registry {
    _folder: Arc<TempDir>,
    file: PathBuf,
    is_created: Arc<Mutex<bool>>,
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
        Ok(Self { _folder: Arc::new(folder), file, is_created: Arc::default() })
    }

    /// Starts a sidecar; the first one alone. Of two that create the file at once, one goes on without it, and reaches
    /// nobody.
    pub(super) fn first_alone<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut is_created = self.is_created.lock();
        if *is_created {
            drop(is_created);
            return start();
        }
        let started = start()?;
        *is_created = true;
        Ok(started)
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}
