//! A broker that takes nothing, and what waits for it meanwhile.

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use parking_lot::Mutex;
use purista_core::{Capability, EventBridge, Filter, HandlerError, SubscriptionOptions};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    time::{Instant, sleep},
};

use crate::{
    broker::NetworkFault,
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{eventually, on_event, within},
    profile::DeploymentOptions,
    stage::{PATIENCE, Stage},
    traffic::RECOVERY,
};

pub(super) const CASES: &[Case] = &[
    case!("LIM-3", a_broker_that_stops_reading, Capability::Reconnect, else "no broker that could stop reading"),
    case!("NET-10", what_waits_is_bounded, Capability::Reconnect, else "no outage"),
];

/// How much later than its time limit one of many emits may return.
const TOLERANCE: Duration = Duration::from_secs(3);

/// How an emit ended.
struct Ended {
    number: u64,
    took: Duration,
    result: purista_core::Result<()>,
}

/// Emits events with these numbers and a text of so many bytes, all at once.
async fn emit_all(
    stage: &Stage,
    bridge: &dyn EventBridge,
    ledger: &Ledger,
    numbers: Range<u64>,
    size: usize,
    limit: Duration,
) -> Vec<Ended> {
    let emits = numbers.map(|number| async move {
        // It may be handled before emit returns, and also if that fails.
        ledger.unknown(number);
        let (content, began) = (Numbered(number, "x".repeat(size)), Instant::now());
        let result = stage.emit_within(bridge, "event", &content, limit).await.map(drop);
        Ended { number, took: began.elapsed(), result }
    });
    join_all(emits).await
}

/// Notes that what was taken over must arrive.
fn must_arrive(ended: &[Ended], ledger: &Ledger) {
    ended.iter().filter(|ended| ended.result.is_ok()).for_each(|ended| ledger.ok(ended.number));
}

/// The content of an event of any size.
#[derive(Serialize, Deserialize)]
struct Numbered(u64, String);

/// Starts a service that keeps the books. Returns it, and whether the broker keeps its messages during an outage.
async fn keep_books(stage: &Stage, ledger: &Arc<Ledger>) -> Result<(Arc<dyn EventBridge>, bool)> {
    let (service, ledger) = (stage.new_bridge()?, Arc::clone(ledger));
    let books = on_event(move |context| {
        let ledger = Arc::clone(&ledger);
        async move {
            let content = context.message().payload().ok_or_else(|| HandlerError::unhandled("no number"))?;
            let Numbered(number, _) = content.deserialize()?;
            ledger.handled(number);
            Ok(())
        }
    });
    let (filter, options) = (Filter::event(stage.unique("event")), SubscriptionOptions::default());
    let registration = stage.subscribe(&*service, "books", filter, options, books).await?;
    service.start().await?;
    let confirms = service.capabilities().has(Capability::BrokerConfirm);
    Ok((service, confirms && registration.granted().durable))
}

/// Looks that nothing was taken over while nothing can be, that no emit is late, and that each says that it is for now.
fn nothing_is_taken(ended: &[Ended], limit: Duration) -> Outcome {
    for Ended { took, result, .. } in ended {
        let error = result.as_ref().err().context("emit returned before the broker had the event")?;
        ensure!(error.kind().is_temporary(), "{error:?}");
        ensure!(*took <= limit + TOLERANCE, "{limit:?} became {took:?}: {error:?}");
    }
    Ok(())
}

/// Calls a command that cannot be reached, and looks at the clock.
async fn a_call_ends_in_time(stage: &Stage, bridge: &dyn EventBridge) -> Outcome {
    let (limit, began) = (Duration::from_millis(500), Instant::now());
    let error = stage.invoke_within(bridge, "echo", &0, limit).await.err().context("an answer")?;
    let took = began.elapsed();
    ensure!(error.bridge_kind().is_some_and(|kind| kind.is_temporary()), "{error:?}");
    ensure!(took <= limit + TOLERANCE, "{limit:?} became {took:?}");
    Ok(())
}

/// Waits until all that was taken over has arrived.
async fn all_arrive(ledger: &Ledger) -> Outcome {
    let all_came = || async { Ok(ledger.balance().lost.is_empty()) };
    let came = eventually("what the broker took over arrives", all_came).await;
    came.with_context(|| format!("lost: {:?}", ledger.balance().lost))?;
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn a_broker_that_stops_reading(mut stage: Stage) -> Outcome {
    stage.own_broker(DeploymentOptions::default()).await?;
    let ledger = Arc::new(Ledger::default());
    let _service = keep_books(&stage, &ledger).await?;
    let (inner, books) = (stage.clone(), Arc::clone(&ledger));
    // On a thread of its own: who blocks it holds up everything in there, and the clock sees that.
    let emitted = tokio::task::spawn_blocking(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(emit_into_a_stall(&inner, &books))
    });
    emitted.await??;
    all_arrive(&ledger).await
}

async fn emit_into_a_stall(stage: &Stage, ledger: &Ledger) -> Outcome {
    const EVENTS: u64 = 100;
    const LIMIT: Duration = Duration::from_secs(6);
    // The catalogue's 20 ms are for a machine that does nothing else. Who blocks on the broker is late by as long as it
    // reads nothing, which is more than six seconds.
    const LATE: Duration = Duration::from_secs(3);
    let (bridge, broker) = (stage.bridge().await?, stage.broker()?);
    stage.begin().await?;
    let size = (64 * 1_024).min(bridge.capabilities().max_payload() / 2);
    let confirms = bridge.capabilities().has(Capability::BrokerConfirm);
    let ended = emit_all(stage, &*bridge, ledger, 0..1, size, PATIENCE).await;
    ensure!(ended.iter().all(|ended| ended.result.is_ok()), "before the broker stalls");
    must_arrive(&ended, ledger);

    broker.break_network(NetworkFault::Stall);
    let latest = Arc::new(Mutex::new(Duration::ZERO));
    let clock = tokio::spawn(watch_the_clock(Arc::clone(&latest)));
    let began = Instant::now();
    let ended = emit_all(stage, &*bridge, ledger, 1..EVENTS, size, LIMIT).await;
    if confirms {
        nothing_is_taken(&ended, LIMIT)?;
    }
    a_call_ends_in_time(stage, &*bridge).await?;
    let stalled = began.elapsed();
    clock.abort();
    let latest = *latest.lock();
    ensure!(latest <= LATE, "a timer was late by {latest:?} while the broker stalled for {stalled:?}");

    broker.mend_network();
    let (again, began) =
        (emit_all(stage, &*bridge, ledger, EVENTS..EVENTS + 1, size, RECOVERY), Instant::now());
    let ended = again.await;
    ensure!(ended.iter().all(|ended| ended.result.is_ok()), "nothing is taken after {:?}", began.elapsed());
    must_arrive(&ended, ledger);
    bridge.shutdown(PATIENCE).await;
    Ok(())
}

/// Notes by how much a timer is late at the most.
async fn watch_the_clock(latest: Arc<Mutex<Duration>>) {
    const TICK: Duration = Duration::from_millis(10);
    loop {
        let began = Instant::now();
        sleep(TICK).await;
        let late = began.elapsed().saturating_sub(TICK);
        let mut latest = latest.lock();
        *latest = late.max(*latest);
    }
}

/// The catalogue has 100,000 emits within an outage of 10 s; the bound is set lower here, and so is their number.
async fn what_waits_is_bounded(mut stage: Stage) -> Outcome {
    const PLACES: usize = 1_000;
    const EVENTS: u64 = 5_000;
    const LIMIT: Duration = Duration::from_secs(2);
    const SIZE: usize = 100;
    stage
        .own_broker(DeploymentOptions { max_pending_emits: Some(PLACES), ..DeploymentOptions::default() })
        .await?;
    let ledger = Arc::new(Ledger::default());
    let ((service, is_kept), bridge) = (keep_books(&stage, &ledger).await?, stage.bridge().await?);
    stage.begin().await?;
    let broker = stage.broker()?;
    broker.break_network(NetworkFault::Down);
    for bridge in [&service, &bridge] {
        eventually("the outage is noticed", || async { Ok(!bridge.health().connected) }).await?;
    }
    let ended = emit_all(&stage, &*bridge, &ledger, 0..EVENTS, SIZE, LIMIT).await;
    nothing_is_taken(&ended, LIMIT)?;
    let waited = ended.iter().filter(|ended| ended.took >= LIMIT).count();
    ensure!(waited <= PLACES, "{waited} emits waited in {PLACES} places");
    a_call_ends_in_time(&stage, &*bridge).await?;

    // Those that wait when the outage ends are taken over, or say that they were not.
    let last = EVENTS..EVENTS + PLACES as u64;
    let next = last.end;
    let waiting = emit_all(&stage, &*bridge, &ledger, last, SIZE, PATIENCE);
    let (ended, ()) = tokio::join!(waiting, async { broker.mend_network() });
    for Ended { result, .. } in &ended {
        ensure!(result.as_ref().err().is_none_or(|error| error.kind().is_temporary()), "{result:?}");
    }
    if is_kept {
        must_arrive(&ended, &ledger);
    }
    for bridge in [&service, &bridge] {
        let is_well = || async { Ok(bridge.health().is_healthy()) };
        within(RECOVERY, "it is well again", is_well).await?;
    }
    let ended = emit_all(&stage, &*bridge, &ledger, next..next + 100, SIZE, PATIENCE).await;
    ensure!(ended.iter().all(|ended| ended.result.is_ok()), "an emit failed after the outage");
    must_arrive(&ended, &ledger);
    all_arrive(&ledger).await
}
