use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::environment::variable;

const MISSING: &str = "rabbitmq-server is missing; scripts/test.sh installs it, or run: sudo apt-get install -y rabbitmq-server";

/// Where packages put the script of the server. What they put on the `PATH` may be a wrapper, which changes the user.
const PLACES: [&str; 4] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
];

/// An installed RabbitMQ.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    /// Erlang's `erl`.
    pub(super) erl: PathBuf,
    /// The folder of all its applications, which are folders themselves.
    plugins: PathBuf,
}

impl Installation {
    /// Finds the one whose script the environment names, or one at the usual places or on the `PATH`.
    pub(super) fn find() -> anyhow::Result<Self> {
        let plugins = match variable("PURISTA_RABBITMQ_SERVER") {
            Some(script) => plugins_of(Path::new(&script))
                .with_context(|| format!("PURISTA_RABBITMQ_SERVER names no server: {script}"))?,
            None => PLACES
                .into_iter()
                .map(PathBuf::from)
                .chain(which::which("rabbitmq-server"))
                .find_map(|script| plugins_of(&script))
                .context(MISSING)?,
        };
        let erl = which::which("erl").context("erl, which runs RabbitMQ, is not on the PATH")?;
        Ok(Self { erl, plugins })
    }

    /// Makes a folder of the applications that `wanted` need, and no other. Erlang looks for each module in each
    /// application, which is most of the time that a start takes.
    pub(super) fn link_applications(&self, wanted: &[&str], folder: &Path) -> anyhow::Result<()> {
        let applications = self.applications()?;
        fs::create_dir(folder)?;
        let mut todo: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        let mut linked = Vec::new();
        while let Some(name) = todo.pop() {
            let Some(application) = applications.get(&name) else { continue }; // it is one of Erlang's
            if linked.contains(&name) {
                continue;
            }
            let file = application.join("ebin").join(format!("{name}.app"));
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            todo.extend(needed_by(&text));
            let link = folder.join(application.file_name().context("no name")?);
            std::os::unix::fs::symlink(application, link)?;
            linked.push(name);
        }
        match wanted.iter().find(|&&name| !linked.iter().any(|linked| linked == name)) {
            Some(name) => bail!("{} has no {name}", self.plugins.display()),
            None => Ok(()),
        }
    }

    /// Returns the folders of its applications by name.
    fn applications(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let mut applications = BTreeMap::new();
        for entry in fs::read_dir(&self.plugins).with_context(|| self.plugins.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.rsplit_once('-').map_or(&*name, |(name, _version)| name).to_owned();
            applications.insert(name, path);
        }
        Ok(applications)
    }
}

/// Returns the folder of the applications that belong to the script.
fn plugins_of(script: &Path) -> Option<PathBuf> {
    let script = script.canonicalize().ok()?;
    let plugins = script.parent()?.parent()?.join("plugins");
    plugins.is_dir().then_some(plugins)
}

/// Reads what an application needs from its `.app` file.
fn needed_by(app: &str) -> Vec<String> {
    let list = app.split_once("{applications,").and_then(|(_, rest)| rest.split_once(']'));
    let names = list.map(|(names, _)| names).unwrap_or_default();
    let names = names.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    names.filter(|name| !name.is_empty()).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_applications_are_read() {
        let app = "{application, a, [\n\t{modules, [x]},\n\t{applications, [kernel,\n rabbit_common,ra]},\n{env, [y]}]}.";
        assert_eq!(needed_by(app), ["kernel", "rabbit_common", "ra"]);
        assert_eq!(needed_by("{application, a, []}."), [""; 0]);
    }
}
