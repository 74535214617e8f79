//! What must not be shown.

use std::{error::Error, fmt::Debug};

use anyhow::{Context as _, ensure};
use purista_core::{BridgeEvent, Capability, CommandOptions, ErrorKind, EventBridge};
use tokio::time::timeout;

use super::access::secured;
use crate::{
    broker::{Login, NetworkFault, SECRET, Security},
    case::{Case, Outcome, case},
    logs,
    probe::{echo, within},
    stage::{PATIENCE, Stage},
    traffic::{RECOVERY, tells},
};

pub(super) const CASES: &[Case] =
    &[case!("SEC-9", secrets_are_not_shown, Capability::Authentication, else "no secrets")];

/// Looks that something that can be shown does not show the secret, in either form.
fn is_discreet(what: &str, shown: &(impl Debug + ?Sized)) -> Outcome {
    let text = format!("{shown:?} {shown:#?}");
    ensure!(!text.contains(SECRET), "{what} shows the secret: {text}");
    Ok(())
}

/// Looks that an error and all its causes do not show the secret.
fn is_discreet_error(what: &str, error: &(dyn Error + 'static)) -> Outcome {
    let mut next = Some(error);
    while let Some(error) = next {
        is_discreet(what, error)?;
        ensure!(!format!("{error} {error:#}").contains(SECRET), "{what} tells the secret: {error}");
        next = error.source();
    }
    Ok(())
}

async fn secrets_are_not_shown(stage: Stage) -> Outcome {
    let secret = logs::search(SECRET)?;
    let canary = format!("canary of {:016x}", stage.seed());
    let heard = logs::search(&canary)?;
    tracing::trace!("{canary}");
    ensure!(heard.found().len() == 1, "what is traced does not arrive: {:?}", heard.found());

    let with = async |login| secured(&stage, Security::Login(login)).await;
    lives_a_life(&with(Login::Right).await?).await?;
    let wrong_password = with(Login::WrongPassword).await?;
    let wrong = wrong_password.new_bridge()?;
    let refused = wrong.start().await.err().context("it started with a wrong password")?;
    ensure!(refused.kind() == ErrorKind::Unauthenticated, "another error: {refused:?}");
    is_discreet_error("the error of a wrong password", &refused)?;
    is_discreet("a bridge that was refused", &wrong)?;
    is_discreet("its health", &wrong.health())?;

    let may_not_publish = with(Login::MayNotPublish).await?;
    let bridge = may_not_publish.bridge().await?;
    may_not_publish.begin().await?;
    let refused = may_not_publish.emit_within(&*bridge, "event", &0, PATIENCE).await;
    is_discreet_error("the error of an emit", &refused.err().context("it published")?)?;
    if stage.deployment().can_forbid_commands() {
        let may_not_subscribe = with(Login::MayNotSubscribe).await?;
        let bridge = may_not_subscribe.new_bridge()?;
        let served = may_not_subscribe.serve(&*bridge, "echo", CommandOptions::default(), echo()).await;
        let refused = served.map(drop).and(bridge.start().await);
        is_discreet_error("the error of a registration", &refused.err().context("it serves a command")?)?;
    }

    let found = secret.found();
    ensure!(found.is_empty(), "the secret was traced: {found:?}");
    Ok(())
}

/// Has a bridge log in, work, lose its connection, log in again and leave, and looks at all that can be seen of it.
async fn lives_a_life(stage: &Stage) -> Outcome {
    let bridge = stage.new_bridge()?;
    is_discreet("a bridge that is not started", &bridge)?;
    let (mut events, mut told) = (bridge.events(), bridge.events());
    let registration = stage.serve(&*bridge, "echo", CommandOptions::default(), echo()).await?;
    bridge.start().await?;
    stage.invoke(&*bridge, "echo", &0).await?;
    is_discreet("a bridge at work", &bridge)?;
    is_discreet("a registration", &registration)?;

    stage.broker()?.break_network(NetworkFault::Down);
    tells(&mut events, "the loss", |event| matches!(event, BridgeEvent::Disconnected(_))).await?;
    stage.broker()?.mend_network();
    let is_well = || async { Ok(bridge.health().is_healthy()) };
    within(RECOVERY, "it is well again", is_well).await?;
    stage.invoke_within(&*bridge, "echo", &0, PATIENCE).await?;
    let report = bridge.shutdown(PATIENCE).await;
    is_discreet("the report of a shutdown", &report)?;
    is_discreet("a bridge that is shut down", &bridge)?;
    let all_told = async {
        while let Some(event) = told.next().await {
            is_discreet("an event", &event)?;
            if event == BridgeEvent::ShutDown {
                break;
            }
        }
        Ok(())
    };
    timeout(PATIENCE, all_told).await.context("it does not tell of the shutdown")?
}
