use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::bail;

use super::{VERSION, docker};
use crate::environment::variable;

/// What can run a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Runner {
    Binary(PathBuf),
    Docker(PathBuf),
}

/// Finds what can run a server: the binary that the environment names, on the `PATH`, or that `scripts/test.sh`
/// installed; then Docker.
pub(super) fn find() -> anyhow::Result<Runner> {
    if let Some(binary) = variable("PURISTA_NATS_SERVER").map(PathBuf::from) {
        if !binary.is_file() {
            bail!("PURISTA_NATS_SERVER names no file: {}", binary.display());
        }
        return Ok(Runner::Binary(binary));
    }
    let binary = which::which("nats-server").ok().or_else(|| cached().filter(|binary| binary.is_file()));
    match binary.map(Runner::Binary).or_else(|| docker::find().map(Runner::Docker)) {
        Some(runner) => Ok(runner),
        None => bail!(
            "nats-server is missing; scripts/test.sh installs it, or run: \
             go install github.com/nats-io/nats-server/v2@v{VERSION}"
        ),
    }
}

/// Returns where `scripts/test.sh` installs it.
fn cached() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join(format!("purista-rs/nats-server-{VERSION}/bin/nats-server")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_names_the_same_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |file| std::fs::read_to_string(root.join(file)).unwrap();
        assert!(read("scripts/test.sh").contains(&format!("nats_server_version={VERSION}\n")));
        assert!(read("docker-compose.yml").contains(&format!("image: {}\n", docker::image())));
    }
}
