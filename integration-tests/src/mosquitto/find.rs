use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::environment::variable;

const MISSING: &str =
    "mosquitto is missing; scripts/test.sh installs it, or run: sudo apt-get install -y mosquitto";

/// Where packages put it beside the `PATH`: it is not for users.
const PLACES: [&str; 3] =
    ["/usr/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto", "/usr/local/sbin/mosquitto"];

/// Finds the binary that the environment names, or one on the `PATH` or at the usual places.
pub(super) fn find() -> anyhow::Result<PathBuf> {
    if let Some(binary) = variable("PURISTA_MOSQUITTO").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("PURISTA_MOSQUITTO names no file: {}", binary.display());
        }
        return Ok(binary);
    }
    let places = PLACES.into_iter().map(PathBuf::from);
    which::which("mosquitto")
        .ok()
        .or_else(|| places.into_iter().find(|place| place.is_file()))
        .context(MISSING)
}

/// Finds what hashes passwords, which belongs to the server.
pub(super) fn find_passwd(server: &Path) -> anyhow::Result<PathBuf> {
    let beside = server.with_file_name("mosquitto_passwd");
    if beside.is_file() {
        return Ok(beside);
    }
    which::which("mosquitto_passwd")
        .context("mosquitto_passwd, which belongs to mosquitto, is not on the PATH")
}
