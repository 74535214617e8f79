//! Certificates that are renewed on disk while the bridge runs.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use purista_conformance::{BrokerCertificate, ClientCertificate};
use purista_core::{BridgeEvent, BridgeEvents, Context, EventBridge, EventBridgeExt as _, Service};
use purista_integration_tests::Certificates;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    brokers::{Files, Kind, bridge},
    peer::PATIENCE,
};

/// Within which time a bridge of these trials has tried to connect a few times.
const SOME_ATTEMPTS: Duration = Duration::from_secs(2);

pub(crate) async fn are_read_anew(kind: Kind) -> anyhow::Result<()> {
    let certificates = Certificates::create(BrokerCertificate::Trusted, ClientCertificate::Right)?;
    let broker = kind.start(Some(&certificates)).await?;
    let process = broker.process()?;
    // The broker does not read those of the bridge.
    let issued = Files::of(&certificates)?;
    let mine = Copy::of(&issued)?;
    let service = bridge(&broker.url(), Some(&mine.files))?;
    let echo =
        Service::new("Echo", "1").command("echo", |_ctx: Context, input: u32| async move { Ok(input) });
    service.serve([echo]).await?;
    let mut events = service.events();

    // Another authority, and other certificates of both sides.
    process.terminate().await?;
    until_lost(&mut events).await?;
    certificates.renew()?;
    mine.renew(&issued)?;
    process.start_again().await?;
    until_back(&mut events).await.context("after the renewal")?;
    ensure!(call(&*service).await? == 7);

    // Whoever writes them is not done yet.
    for file in [&mine.files.authority, &mine.files.certificate, &mine.files.key] {
        let whole = fs::read(file)?;
        process.terminate().await?;
        until_lost(&mut events).await?;
        fs::write(file, &whole[..whole.len() / 2])?;
        process.start_again().await?;
        let other = bridge(&broker.url(), Some(&issued))?;
        other.start().await.context("somebody whose files are whole")?;
        let came_back = timeout(SOME_ATTEMPTS, until_back(&mut events)).await;
        ensure!(came_back.is_err(), "it connected with half of {}", file.display());
        ensure!(!service.health().is_healthy(), "{:?}", service.health());

        fs::write(file, whole)?;
        until_back(&mut events).await.with_context(|| format!("{} is whole again", file.display()))?;
        ensure!(call(&*service).await? == 7 && service.health().is_healthy());
        other.shutdown(PATIENCE).await;
    }
    service.shutdown(PATIENCE).await;
    Ok(())
}

/// Files of a bridge that nobody else reads.
struct Copy {
    files: Files,
    _folder: TempDir,
}

impl Copy {
    fn of(issued: &Files) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("purista-renewed-")?;
        let [authority, certificate, key] =
            ["authority.pem", "bridge.pem", "bridge.key"].map(|name| folder.path().join(name));
        let copy = Self { files: Files { authority, certificate, key }, _folder: folder };
        copy.renew(issued)?;
        Ok(copy)
    }

    fn renew(&self, issued: &Files) -> anyhow::Result<()> {
        let pairs: [(&PathBuf, &PathBuf); 3] = [
            (&issued.authority, &self.files.authority),
            (&issued.certificate, &self.files.certificate),
            (&issued.key, &self.files.key),
        ];
        for (from, to) in pairs {
            fs::copy(from, to)?;
        }
        Ok(())
    }
}

async fn call(bridge: &dyn EventBridge) -> anyhow::Result<u32> {
    Ok(bridge.invoke(("Echo", "1", "echo"), &7).await?)
}

async fn until_lost(events: &mut BridgeEvents) -> anyhow::Result<()> {
    until(events, |event| matches!(event, BridgeEvent::Disconnected(_))).await
}

async fn until_back(events: &mut BridgeEvents) -> anyhow::Result<()> {
    until(events, |event| *event == BridgeEvent::Connected).await
}

async fn until(events: &mut BridgeEvents, is_it: fn(&BridgeEvent) -> bool) -> anyhow::Result<()> {
    let told = timeout(PATIENCE, async {
        loop {
            let event = events.next().await.context("the bridge is gone")?;
            if is_it(&event) {
                return anyhow::Ok(());
            }
        }
    });
    told.await.context("it is not told")?
}
