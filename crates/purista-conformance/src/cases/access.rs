//! Who may connect, and what they may do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use purista_core::{Capability, CommandOptions, ErrorKind, EventBridge};
use tokio::time::{Instant, timeout};

use crate::{
    broker::{BrokerCertificate, ClientCertificate, Login, Security},
    case::{Case, Outcome, case},
    probe::echo,
    profile::DeploymentOptions,
    stage::{OPERATION_TIMEOUT, PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[
    case!("SEC-1", certificates_are_checked, Capability::Tls, else "no connection"),
    case!("SEC-2", bad_credentials_are_refused, Capability::Authentication, else "no credentials"),
];

/// Returns a stage whose broker and bridges are secured like this.
pub(super) async fn secured(stage: &Stage, security: Security) -> Result<Stage> {
    let mut stage = stage.clone();
    stage.own_broker(DeploymentOptions { security: Some(security), ..DeploymentOptions::default() }).await?;
    Ok(stage)
}

/// Has a bridge start, and use its connection in both directions.
async fn works(stage: &Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    let seen = stage.collect(&*bridge, "subscriber", "event").await?;
    bridge.start().await.context("start")?;
    stage.invoke(&*bridge, "echo", &0).await?;
    stage.emit(&*bridge, "event", &0).await?;
    seen.at_least(1).await?;
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

/// Looks that a bridge cannot start, says one of these reasons in time, and is not usable then.
async fn is_refused(stage: &Stage, reasons: &[ErrorKind]) -> Outcome {
    let bridge = stage.new_bridge()?;
    let started = timeout(OPERATION_TIMEOUT, bridge.start()).await.context("it still tries to start")?;
    let error = started.err().context("it started")?;
    ensure!(reasons.contains(&error.kind()), "{error:?}");
    ensure!(!bridge.health().is_ready(), "{:?}", bridge.health());
    let emit = stage.emit_within(&*bridge, "event", &0, PATIENCE).await.err().map(|error| error.kind());
    ensure!(emit == Some(ErrorKind::NotStarted), "emit after a start that was refused: {emit:?}");
    Ok(())
}

async fn certificates_are_checked(stage: Stage) -> Outcome {
    use {BrokerCertificate as Broker, ClientCertificate as Client};
    const TLS: &[ErrorKind] = &[ErrorKind::Tls];
    // A broker refuses a client's certificate after the handshake is done for the client, or takes it for a login.
    const TLS_OR_LOGIN: &[ErrorKind] = &[ErrorKind::Tls, ErrorKind::Unauthenticated];
    let verdicts: [(_, _, Option<&[_]>); 9] = [
        (Broker::Trusted, Client::NotAsked, None),
        (Broker::OtherAuthority, Client::NotAsked, Some(TLS)),
        (Broker::OtherHost, Client::NotAsked, Some(TLS)),
        (Broker::Expired, Client::NotAsked, Some(TLS)),
        (Broker::SelfSigned, Client::NotAsked, Some(TLS)),
        // It would take plain text, which must not be tried.
        (Broker::Absent, Client::NotAsked, Some(TLS)),
        (Broker::Trusted, Client::Right, None),
        (Broker::Trusted, Client::Missing, Some(TLS_OR_LOGIN)),
        (Broker::Trusted, Client::OtherAuthority, Some(TLS_OR_LOGIN)),
    ];
    for (broker, client, refused) in verdicts {
        let stage = secured(&stage, Security::Tls(broker, client)).await?;
        let seen = match refused {
            None => works(&stage).await,
            Some(reasons) => is_refused(&stage, reasons).await,
        };
        seen.with_context(|| format!("the broker shows {broker:?}, the bridge {client:?}"))?;
    }
    Ok(())
}

async fn bad_credentials_are_refused(stage: Stage) -> Outcome {
    let with = async |login| secured(&stage, Security::Login(login)).await;
    works(&with(Login::Right).await?).await.context("with the right login")?;
    let wrong = with(Login::WrongPassword).await?;
    let (before, began) = (wrong.broker()?.connection_attempts(), Instant::now());
    is_refused(&wrong, &[ErrorKind::Unauthenticated]).await.context("with a wrong password")?;
    may_not_publish(&with(Login::MayNotPublish).await?).await.context("who may not publish")?;
    if stage.deployment().can_forbid_commands() {
        may_not_subscribe(&with(Login::MayNotSubscribe).await?).await.context("who may not subscribe")?;
    }

    // Also not in the background, after the start has failed: about one attempt a second.
    let attempts = wrong.broker()?.connection_attempts() - before;
    let allowed = 2 + began.elapsed().as_secs();
    ensure!(attempts as u64 <= allowed, "{attempts} attempts within {:?}", began.elapsed());
    Ok(())
}

async fn may_not_publish(stage: &Stage) -> Outcome {
    const LIMIT: Duration = PATIENCE;
    let bridge = stage.new_bridge()?;
    stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    bridge.start().await.context("start")?;
    let began = Instant::now();
    let error = stage.emit_within(&*bridge, "event", &0, LIMIT).await.err().context("it published")?;
    ensure!(error.kind() == ErrorKind::Forbidden, "{error:?}");
    ensure!(began.elapsed() < LIMIT, "it was told after {:?}", began.elapsed());
    // What it may do goes on.
    if stage.deployment().can_forbid_events_alone() {
        stage.invoke(&*bridge, "echo", &0).await?;
    }
    ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    Ok(())
}

async fn may_not_subscribe(stage: &Stage) -> Outcome {
    let (bridge, late) = (stage.new_bridge()?, stage.claims()?.has(Capability::RegisterAfterStart));
    if late {
        bridge.start().await.context("start")?;
    }
    let began = Instant::now();
    let served = stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await;
    let refused = if late { served.err() } else { bridge.start().await.err() };
    let error = refused.context("it serves a command")?;
    ensure!(error.kind() == ErrorKind::Forbidden, "{error:?}");
    ensure!(began.elapsed() < OPERATION_TIMEOUT, "it was told after {:?}", began.elapsed());
    if late {
        // What it may do goes on, and what was refused is not taken for broken.
        let seen = stage.collect(&*bridge, "subscriber", "event").await?;
        stage.emit(&*bridge, "event", &0).await?;
        seen.at_least(1).await?;
        ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    }
    Ok(())
}
