use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

/// How many lines of a log an error shows.
const LOG_LINES: usize = 60;

/// The folder of one broker: its configuration, data and log. It is removed with this.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new(broker: &str) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix(format!("purista-{broker}-")).context("temporary folder")?;
        fs::create_dir(folder.path().join("data")).context("data folder")?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}
