//! Bridges that lose what they run on.

use std::{fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    BridgeState, CommandOptions, ErrorKind, EventBridge, Filter, InvokeError, Registration,
    SubscriptionOptions,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, Latch, echo, eventually},
    stage::{PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[case!("LIF-11", a_bridge_whose_runtime_is_gone)];

/// How long something may take that fails at once, or starts a process first, as with a sidecar beside each bridge. What
/// waits for a time limit instead shows by the kind of its error.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A runtime that a trial can end.
struct Home(Option<Runtime>);

impl Home {
    fn new() -> Result<Self> {
        Ok(Self(Some(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)))
    }

    async fn run<R: Send + 'static>(
        &self,
        task: impl Future<Output = Result<R>> + Send + 'static,
    ) -> Result<R> {
        self.0.as_ref().context("it is gone")?.spawn(task).await?
    }

    fn end(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.end();
    }
}

/// Subscribes and starts.
async fn join(stage: &Stage, bridge: &Arc<dyn EventBridge>) -> Result<Registration> {
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let handler = Collector::new().handler();
    let registration =
        stage.subscribe(&**bridge, "lost", filter, options, handler).await.context("subscribe")?;
    bridge.start().await.context("start")?;
    Ok(registration)
}

async fn a_bridge_whose_runtime_is_gone(stage: Stage) -> Outcome {
    let (other, latch) = (stage.bridge().await?, Latch::new());
    stage.serve(&*other, "held", CommandOptions::default(), latch.command(&Collector::new())).await?;
    stage.begin().await?;
    let before = stage.deployment().inspect().await?.connections;

    let (mut home, bridge) = (Home::new()?, stage.new_bridge()?);
    let joining = (stage.clone(), Arc::clone(&bridge));
    let registration = home.run(async move { join(&joining.0, &joining.1).await }).await?;
    ensure!(bridge.health().is_healthy(), "{:?}", bridge.health());
    let call = stage.calling(&bridge, "held", "held");
    latch.reached(1).await?;
    home.end();
    let call = timeout(AT_ONCE, call).await.context("a call under way waits on")??;
    // Its connection may go before the rest.
    let failed = call.as_ref().err().map(kind_of);
    let is_told_either = matches!(failed, Some(ErrorKind::ShutDown | ErrorKind::Unavailable));
    ensure!(is_told_either, "a call under way: {call:?}");
    let is_known = || async {
        let health = bridge.health();
        Ok(health.state == BridgeState::ShutDown && !health.connected && !health.is_healthy())
    };
    eventually("health tells it", is_known).await?;
    everything_fails(&stage, &bridge, &registration).await.context("on another runtime")?;
    let elsewhere = (stage.clone(), Arc::clone(&bridge), registration.clone());
    let used = tokio::task::spawn_blocking(move || {
        let (stage, bridge, registration) = elsewhere;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(everything_fails(&stage, &bridge, &registration))
    });
    used.await?.context("on a runtime of its own")?;
    drop((bridge, registration));

    let dropped = stage.new_bridge()?;
    let registration = join(&stage, &dropped).await?;
    drop(dropped);
    let ended =
        timeout(AT_ONCE, registration.unregister()).await.context("the end of a registration hangs")?;
    is_told(&ended.map_err(|error| error.kind()), "the registration of a bridge that was dropped")?;
    let are_gone = || async { Ok(stage.deployment().inspect().await?.connections <= before) };
    eventually("nothing of both is left at the broker", are_gone).await?;

    latch.open();
    stage.invoke(&*other, "held", &"after").await.context("another bridge")?;
    Ok(())
}

fn kind_of(error: &InvokeError) -> ErrorKind {
    error.bridge_kind().unwrap_or(ErrorKind::Unexpected)
}

fn is_told<T: Debug>(result: &Result<T, ErrorKind>, what: &str) -> Outcome {
    ensure!(matches!(result, Err(ErrorKind::ShutDown)), "{what}: {result:?}");
    Ok(())
}

/// Uses a bridge in every way.
async fn everything_fails(
    stage: &Stage,
    bridge: &Arc<dyn EventBridge>,
    registration: &Registration,
) -> Outcome {
    let uses = async {
        let emitted = stage.emit_within(&**bridge, "event", &0, PATIENCE).await;
        is_told(&emitted.map_err(|error| error.kind()), "emit")?;
        is_told(&stage.invoke(&**bridge, "held", &0).await.map_err(|error| kind_of(&error)), "invoke")?;
        let served = stage.serve(&**bridge, "late", CommandOptions::default(), echo()).await;
        is_told(&served.map_err(|error| error.kind()), "register")?;
        is_told(&registration.unregister().await.map_err(|error| error.kind()), "unregister")?;
        is_told(&bridge.start().await.map_err(|error| error.kind()), "start")?;
        let report = bridge.shutdown(PATIENCE).await;
        ensure!(!report.is_clean(), "a shutdown that cannot be is clean: {report:?}");
        Ok(())
    };
    timeout(AT_ONCE, uses).await.context("something hangs")?
}
