use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{environment::variable, shell::shell};

/// Finds the binary that the environment names, on the `PATH`, or that `scripts/test.sh` built.
pub(super) fn find() -> anyhow::Result<PathBuf> {
    if let Some(binary) = variable("PURISTA_DAPRD").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("PURISTA_DAPRD names no file: {}", binary.display());
        }
        return Ok(binary);
    }
    which::which("daprd")
        .ok()
        .or_else(|| cached().filter(|binary| binary.is_file()))
        .context("daprd is missing; scripts/test.sh builds it (or set PURISTA_DAPRD)")
}

/// Returns where `scripts/test.sh` puts what it builds of these sources.
fn cached() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))?;
    let version = version()?;
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/daprd");
    let sum =
        shell(&format!("cd '{sources}' && cat main.go go.mod go.sum | cksum | cut -d ' ' -f 1")).ok()?;
    Some(cache.join(format!("purista-rs/daprd-{version}-{}/bin/daprd", sum.trim())))
}

/// Returns the version that is built, without the letter before it.
fn version() -> Option<&'static str> {
    let lines = include_str!("../../daprd/go.mod").lines();
    lines
        .filter_map(|line| line.trim().split_once("github.com/dapr/dapr v"))
        .map(|(_, version)| version)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_names_the_same_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let compose = std::fs::read_to_string(root.join("docker-compose.yml")).unwrap();
        assert!(compose.contains(&format!("image: daprio/daprd:{}\n", version().unwrap())));
    }
}
