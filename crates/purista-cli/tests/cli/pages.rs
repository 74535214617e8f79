//! Completions and manual pages.

use anyhow::{Result, ensure};

use crate::program::run;

#[tokio::test(flavor = "multi_thread")]
async fn shells_and_man_are_told() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run("", &["completions", shell]).await?.must(0, "")?;
        ensure!(
            ended.stdout.contains("must-route") && ended.stdout.contains("receiver-instance"),
            "{ended:?}"
        );
    }
    let page = run("", &["man"]).await?.must(0, "")?;
    ensure!(page.stdout.contains(".TH purista 1") && page.stdout.contains("Exit codes"), "{page:?}");
    for (verb, option) in [("call", "parameter"), ("emit", "must\\-route"), ("tail", "count")] {
        let page = run("", &["man", verb]).await?.must(0, "")?;
        ensure!(
            page.stdout.contains(&format!(".TH purista-{verb} 1")) && page.stdout.contains(option),
            "{page:?}"
        );
        let help = run("", &[verb, "--help"]).await?.must(0, "")?;
        ensure!(help.stdout.contains("Exit codes"), "{help:?}");
    }
    ensure!(run("", &["--version"]).await?.must(0, "")?.stdout.starts_with("purista "));
    Ok(())
}
