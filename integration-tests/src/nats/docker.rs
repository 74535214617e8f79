//! nats-server in a container. It needs an engine that answers, and one that shares the temporary folder of this
//! system, as local ones do.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{VERSION, server::Ports};
use crate::launch::Launch;

pub(super) fn image() -> String {
    format!("nats:{VERSION}-alpine")
}

/// Finds the client, if an engine answers it.
pub(super) fn find() -> Option<PathBuf> {
    let docker = which::which("docker").ok()?;
    let answer = Command::new(&docker).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    answer.is_ok_and(|status| status.success()).then_some(docker)
}

/// Has a server in a container read its configuration again.
pub(super) fn reload(docker: &Path, name: &str) -> anyhow::Result<()> {
    let status =
        Command::new(docker).args(["kill", "--signal", "HUP", name]).stdout(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "docker kill --signal HUP: {status}");
    Ok(())
}

pub(super) fn launch(
    docker: &Path,
    name: &str,
    ports: Ports,
    config: &Path,
    ready: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
) -> Launch {
    let docker = docker.display();
    let user = rustix::process::getuid().as_raw();
    let Ports { client, monitor } = ports;
    // Files have the same path inside, and the server writes as this user. The container of the run before may be
    // about to be removed, and has the same name.
    let script = format!(
        "'{docker}' rm --force {name}; exec '{docker}' run --rm --name {name} --user {user} \
         --publish 127.0.0.1:{client}:{client} --publish 127.0.0.1:{monitor}:{monitor} \
         --volume '{temporary}:{temporary}' {image} nats-server -c '{config}'",
        temporary = env::temp_dir().display(),
        image = image(),
        config = config.display(),
    );
    let command = ["sh", "-c", &script].map(Into::into).to_vec();
    // SIGKILL would end the client and not the container.
    Launch::new("nats-server", command, ready).killed_by(format!("'{docker}' kill {name}"))
}
