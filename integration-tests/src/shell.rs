use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs a command of the shell, and returns what it prints.
pub(crate) fn shell(command: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().context("sh")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(printed)
}
