//! The process of an instance dies with messages in hand.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use purista_core::{
    Acknowledge, Capability, CommandOptions, ErrorKind, EventBridge, Filter, InvokeError, Message, Payload,
    SubscriptionHandler,
};
use tokio::task::JoinHandle;

use crate::{
    case::{Case, Outcome, case},
    ledger::Ledger,
    probe::{Collector, Latch, begin_shutdown, bookkeeper, echo, eventually, grows_to, on_event, within},
    profile::DeploymentOptions,
    stage::{LEASE, PATIENCE, Stage},
    worker::{GIVEN_UP, HANDLED, Job, MEMBER, POISON, REGISTERED, Worker},
};

pub(super) const CASES: &[Case] = &[
    case!("ACK-1", nothing_dies_with_its_process, Capability::RedeliveryCount, else "the process that dies is the one that holds the messages"),
    case!("CMD-1", commands_come_again, Capability::AtLeastOnceCommands, else refuses_to_deliver_again),
    case!("ACK-7", poison_is_parked, Capability::RedeliveryCount, else "a process that dies takes its messages along"),
    case!("GRP-5", survivors_finish, Capability::GroupHandover, else "members live in one process and die together"),
];

/// Moves to a deployment whose broker soon delivers again what a dead process held.
async fn with_short_lease(stage: &mut Stage) -> Outcome {
    stage.redeploy(DeploymentOptions { lease: Some(LEASE), ..DeploymentOptions::default() }).await
}

/// Starts an instance in this process.
async fn instance(
    stage: &Stage,
    job: Job,
    handler: Arc<dyn SubscriptionHandler>,
) -> Result<Arc<dyn EventBridge>> {
    let bridge = stage.new_bridge()?;
    let filter = Filter::event(stage.unique("event"));
    stage.subscribe(&*bridge, MEMBER, filter, job.options(), handler).await?;
    bridge.start().await?;
    Ok(bridge)
}

/// Starts an instance in another process, and waits until it is live.
async fn instance_elsewhere(stage: &Stage, job: Job) -> Result<Worker> {
    let mut worker = Worker::hire(stage, job)?;
    ensure!(worker.says(REGISTERED).await?, "the worker died before it was live");
    Ok(worker)
}

async fn holds(worker: &mut Worker, events: usize) -> Outcome {
    ensure!(worker.says(&Job::in_hand(events)).await?, "the worker died before it held {events} events");
    Ok(())
}

/// Waits until each event that was sent is handled, at the latest some time after the lease of the dead is over.
async fn all_arrive(ledger: &Ledger) -> Outcome {
    let all_came = || async { Ok(ledger.balance().lost.is_empty()) };
    let came = within(LEASE + PATIENCE, "each event is handled by a survivor", all_came).await;
    came.with_context(|| format!("lost: {:?}", ledger.balance().lost))?;
    ensure!(ledger.balance().is_at_least_once(), "{:?}", ledger.balance());
    Ok(())
}

async fn survivors_finish(mut stage: Stage) -> Outcome {
    const EVENTS: usize = 1_000;
    const HELD: usize = 20;
    with_short_lease(&mut stage).await?;
    let (ledger, job) = (Arc::new(Ledger::default()), Job::Hold(HELD));
    let survivor = instance(&stage, job, bookkeeper(&ledger)).await?;
    let _another = instance(&stage, job, bookkeeper(&ledger)).await?;
    let mut member = instance_elsewhere(&stage, job).await?;
    (0..EVENTS as u64).for_each(|number| ledger.ok(number));
    stage.emit_each(&*survivor, "event", 0..EVENTS / 2).await?;
    holds(&mut member, HELD).await?;
    let of_others = EVENTS / 2 - HELD - stage.deployment().prefetched();
    grows_to(of_others, "events of the others", || ledger.handled_count()).await?;
    member.kill().await?;
    stage.emit_each(&*survivor, "event", EVENTS / 2..EVENTS).await?;
    all_arrive(&ledger).await
}

async fn nothing_dies_with_its_process(mut stage: Stage) -> Outcome {
    const EVENTS: usize = 200;
    const HELD: usize = 10;
    const DEATHS: u32 = 2;
    with_short_lease(&mut stage).await?;
    let (emitter, job) = (stage.bridge().await?, Job::Hold(HELD));
    stage.begin().await?;
    for death in 0..DEATHS {
        let mut worker = instance_elsewhere(&stage, job).await?;
        if death == 0 {
            stage.emit_each(&*emitter, "event", 0..EVENTS).await?;
        }
        holds(&mut worker, HELD).await?;
        worker.kill().await?;
    }
    let (ledger, seen) = (Arc::new(Ledger::default()), Collector::new());
    (0..EVENTS as u64).for_each(|number| ledger.ok(number));
    let (books, log) = (bookkeeper(&ledger), Arc::clone(&seen));
    let handler = on_event(move |context| {
        log.record(&context);
        let books = Arc::clone(&books);
        async move { books.handle(context).await }
    });
    let _successor = instance(&stage, job, handler).await?;
    all_arrive(&ledger).await?;
    // The broker has counted what it gave to the dead.
    let again = seen.seen().iter().filter(|seen| seen.attempt > 1).count();
    let most = seen.seen().iter().map(|seen| seen.attempt).max();
    ensure!(again >= HELD, "{again} of the {HELD} events that a process died with are known to come again");
    ensure!(most <= Some(DEATHS + 1), "attempt {most:?} after {DEATHS} deaths");
    Ok(())
}

async fn poison_is_parked(mut stage: Stage) -> Outcome {
    const ATTEMPTS: u32 = 3;
    with_short_lease(&mut stage).await?;
    let (emitter, job) = (stage.bridge().await?, Job::DieOfPoison(ATTEMPTS));
    stage.begin().await?;
    let mut worker = instance_elsewhere(&stage, job).await?;
    let sent = stage.emit(&*emitter, "event", POISON).await?;
    let mut crashes = 0;
    while !worker.says(GIVEN_UP).await? {
        let status = worker.end().await?;
        ensure!(status.code() != Some(1), "the worker failed instead of being killed: {status}");
        crashes += 1;
        ensure!(crashes <= ATTEMPTS + 1, "it killed {crashes} processes at {ATTEMPTS} attempts");
        worker = Worker::hire(&stage, job)?;
    }
    ensure!(crashes > 0, "it was given up, and has killed no process");

    if emitter.capabilities().has(Capability::DeadLetter) {
        let letters = stage.deployment().take_dead_letters().await?;
        ensure!(letters.len() == 1, "{letters:?}");
        ensure!(letters[0].message_id == sent.id && letters[0].attempts == ATTEMPTS, "{letters:?}");
    }
    // The one that parked it lives, and works on.
    stage.emit(&*emitter, "event", "good").await?;
    ensure!(worker.says(HANDLED).await?, "the worker died of a good event");
    let is_empty = || async { Ok(stage.deployment().inspect().await?.queued == 0) };
    eventually("nothing waits any more", is_empty).await
}

/// Makes calls of a command, each with its number.
fn calls(
    stage: &Stage,
    caller: &Arc<dyn EventBridge>,
    target: &'static str,
    count: usize,
) -> Vec<JoinHandle<Result<Arc<Message>, InvokeError>>> {
    (0..count).map(|number| stage.calling(caller, target, number)).collect()
}

async fn are_answered(calls: Vec<JoinHandle<Result<Arc<Message>, InvokeError>>>) -> Outcome {
    for (number, call) in calls.into_iter().enumerate() {
        let response = call.await?.with_context(|| format!("call {number}"))?;
        ensure!(response.payload() == Some(&Payload::json(&number)?), "call {number} got {response:?}");
    }
    Ok(())
}

async fn commands_come_again(mut stage: Stage) -> Outcome {
    with_short_lease(&mut stage).await?;
    commands_outlive_a_process(&stage).await.context("when a process is killed")?;
    commands_outlive_a_shutdown(&stage).await.context("when an instance leaves")
}

/// Kills a process that executes commands, while others wait for it.
async fn commands_outlive_a_process(stage: &Stage) -> Outcome {
    const CALLS: usize = 8;
    const HELD: usize = 4;
    let (caller, survivor, job) = (stage.bridge().await?, stage.new_bridge()?, Job::HoldCommands(HELD));
    stage.begin().await?;
    let mut worker = instance_elsewhere(stage, job).await?;
    let calls = calls(stage, &caller, MEMBER, CALLS);
    holds(&mut worker, HELD).await?;
    let (executed, open) = (Collector::new(), Latch::new());
    open.open();
    stage.serve(&*survivor, MEMBER, job.command_options(), open.command(&executed)).await?;
    survivor.start().await?;
    worker.kill().await?;
    are_answered(calls).await?;
    ensure!(executed.count() == CALLS, "the survivor executed {:?}", executed.payloads());
    Ok(())
}

/// Shuts an instance down whose handler does not finish, while commands wait for both instances.
async fn commands_outlive_a_shutdown(stage: &Stage) -> Outcome {
    const CALLS: usize = 10;
    const GRACE: Duration = Duration::from_millis(200);
    let (caller, job) = (stage.bridge().await?, Job::HoldCommands(1));
    stage.begin().await?;
    let (latches, executed) = ([Latch::new(), Latch::new()], [Collector::new(), Collector::new()]);
    let bridges = [stage.new_bridge()?, stage.new_bridge()?];
    for ((bridge, latch), executed) in bridges.iter().zip(&latches).zip(&executed) {
        stage.serve(&**bridge, "leaves", job.command_options(), latch.command(executed)).await?;
        bridge.start().await?;
    }
    let [leaving, _staying] = bridges;
    let calls = calls(stage, &caller, "leaves", CALLS);
    latches[0].reached(1).await?;
    latches[1].reached(1).await?;
    let shutdown = begin_shutdown(&leaving, GRACE).await?;
    latches[1].open();
    let report = shutdown.await?;
    ensure!(report.cancelled_handlers == 1, "{report:?}");
    are_answered(calls).await?;
    let counts = executed.map(|executed| executed.count());
    ensure!(counts == [1, CALLS], "of {CALLS} calls, the two instances began {counts:?}");
    Ok(())
}

async fn refuses_to_deliver_again(stage: Stage) -> Outcome {
    let bridge = stage.bridge().await?;
    stage.begin().await?;
    let before = stage.deployment().routes().await?;
    let options = CommandOptions::default().with_acknowledge(Acknowledge::AfterHandler);
    let refused = stage.serve(&*bridge, "asks", options, echo()).await;
    let error = refused.err().context("it was granted and is not claimed")?;
    ensure!(error.kind() == ErrorKind::Unsupported(Capability::AtLeastOnceCommands), "{error:?}");
    let after = stage.deployment().routes().await?;
    ensure!(after == before, "{before} routes became {after}");
    Ok(())
}
