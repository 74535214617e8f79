//! Sidecars that lack or forbid something: what does not need it works, and the rest names the setting.

use anyhow::{Context as _, ensure};
use purista_core::{
    Context, Error, ErrorKind, EventBridge as _, EventBridgeExt as _, Filter, InvokeError, Payload, Service,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::dapr::{Component, Sidecar, SidecarConfig};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, Seen, beside};

const APP: &str = "app-mail-v1";

fn watcher(seen: &Seen) -> Service {
    let seen = seen.clone();
    Service::new("Mail", "1").subscription(
        "watch",
        Filter::event("happened"),
        move |_ctx: Context, payload: Payload| {
            seen.push(payload.as_str());
            async { Ok(()) }
        },
    )
}

fn greeter() -> Service {
    Service::new("Mail", "1").command("greet", |_ctx: Context, name: String| async move { Ok(name) })
}

/// Allows all that a bridge uses but this.
fn all_but(api: &str) -> Value {
    let apis = ["metadata", "publish", "invoke"].into_iter().filter(|name| *name != api);
    let apis: Value = apis.map(|name| json!({ "name": name, "version": "v1", "protocol": "http" })).collect();
    json!({ "allowed": apis })
}

fn denies(api: &str) -> Value {
    json!({ "denied": [{ "name": api, "version": "v1.0", "protocol": "http" }] })
}

async fn refused(sidecar: &Sidecar, service: Option<Service>) -> anyhow::Result<Error> {
    let bridge = beside(sidecar).build()?;
    let started = match service {
        Some(service) => bridge.serve([service]).await.map(drop),
        None => bridge.start().await,
    };
    bridge.shutdown(PATIENCE).await;
    started.err().context("it started")
}

fn names(error: &Error, kind: ErrorKind, setting: &str) -> anyhow::Result<()> {
    ensure!(error.kind() == kind && !kind.is_temporary(), "{error:?}");
    ensure!(error.to_string().contains(setting), "{error}");
    Ok(())
}

async fn call(bridge: &DaprBridge) -> anyhow::Result<Error> {
    let answer = bridge.invoke::<String>(("Mail", "1", "greet"), "Ada").await.err().context("an answer")?;
    match answer {
        InvokeError::Bridge(error) => Ok(error),
        other => Err(other.into()),
    }
}

#[tokio::test]
async fn without_a_name_resolver_there_are_events_and_no_commands() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let config = || anyhow::Ok(place.config(APP)?.with_spec("nameResolution", None));
    let sidecar = Sidecar::start(config()?).await?;
    names(&refused(&sidecar, Some(greeter())).await?, ErrorKind::InvalidConfig, "spec.nameResolution")?;

    let sidecar = Sidecar::start(config()?).await?;
    let (bridge, seen) = (beside(&sidecar).build()?, Seen::default());
    bridge.serve([watcher(&seen)]).await?;
    bridge.event("happened").timeout(PATIENCE).emit(&1).await?;
    seen.at_least(1).await?;
    names(&call(&bridge).await?, ErrorKind::InvalidConfig, "spec.nameResolution")?;
    ensure!(bridge.health().is_healthy());
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

#[tokio::test]
async fn what_the_sidecar_forbids_is_named_and_the_rest_works() -> anyhow::Result<()> {
    // One place each, as a sidecar that is gone is found for some more seconds.
    let start = async |api: Value| {
        let place = Place::new(Component::InMemory)?;
        let sidecar = Sidecar::start(place.config(APP)?.with_spec("api", Some(api))).await?;
        anyhow::Ok((place, sidecar))
    };
    for lists in [all_but, denies] {
        let (_place, sidecar) = start(lists("metadata")).await?;
        let error = refused(&sidecar, None).await?;
        names(&error, ErrorKind::Forbidden, "spec.api.allowed")?;
        names(&error, ErrorKind::Forbidden, "metadata")?;

        let (_place, sidecar) = start(lists("publish")).await?;
        let bridge = beside(&sidecar).build()?;
        bridge.serve([greeter()]).await?;
        let error = bridge.event("happened").timeout(PATIENCE).emit(&1).await.err().context("taken")?;
        names(&error, ErrorKind::Forbidden, "API publish")?;
        let _: String = bridge.invoke(("Mail", "1", "greet"), "Ada").await?;
        ensure!(bridge.health().is_healthy());
        bridge.shutdown(PATIENCE).await;

        let (place, sidecar) = start(lists("invoke")).await?;
        let other = place.sidecar("caller").await?;
        let (bridge, caller, seen) = (beside(&sidecar).build()?, beside(&other).build()?, Seen::default());
        bridge.serve([watcher(&seen), greeter()]).await?;
        caller.start().await?;
        bridge.event("happened").timeout(PATIENCE).emit(&1).await?;
        seen.at_least(1).await?;
        names(&call(&bridge).await?, ErrorKind::Forbidden, "API invoke")?;
        // Others may still call what it serves.
        let _: String = caller.invoke(("Mail", "1", "greet"), "Ada").await?;
        ensure!(bridge.health().is_healthy());
        caller.shutdown(PATIENCE).await;
        bridge.shutdown(PATIENCE).await;
    }
    Ok(())
}

#[tokio::test]
async fn an_app_that_is_called_otherwise_or_not_at_all_is_refused() -> anyhow::Result<()> {
    let place = Place::new(Component::InMemory)?;
    let start =
        async |change: fn(SidecarConfig) -> SidecarConfig| Sidecar::start(change(place.config(APP)?)).await;
    let sidecar = start(|config| config.with_argument("--app-protocol=grpc")).await?;
    let error = refused(&sidecar, Some(greeter())).await?;
    names(&error, ErrorKind::InvalidConfig, "--app-protocol is grpc")?;
    let sidecar = start(|config| config.with_argument("--app-port=0")).await?;
    names(&refused(&sidecar, Some(greeter())).await?, ErrorKind::InvalidConfig, "--app-port")?;

    let sidecar = start(|config| config.with_argument("--disable-init-endpoints=config,subscribe")).await;
    if let Ok(sidecar) = sidecar {
        let bridge = beside(&sidecar).connect_timeout(std::time::Duration::from_secs(1)).build()?;
        let error = bridge.serve([watcher(&Seen::default())]).await.err().context("it started")?;
        ensure!(error.to_string().contains("disable-init-endpoints"), "{error}");
        bridge.shutdown(PATIENCE).await;
    }

    let token = start(|config| config.with_app_token("right")).await?;
    let bridge = beside(&token).app_token("wrong").build()?;
    let error = bridge.serve([greeter()]).await.err().context("it started")?;
    names(&error, ErrorKind::Unauthenticated, "APP_API_TOKEN")?;
    bridge.shutdown(PATIENCE).await;
    let bridge = beside(&token).app_token("right").api_token("of nobody").build()?;
    bridge.serve([greeter()]).await?;
    bridge.shutdown(PATIENCE).await;
    let token = start(|config| config.with_api_token("right")).await?;
    names(&refused(&token, None).await?, ErrorKind::Unauthenticated, "DAPR_API_TOKEN")
}
