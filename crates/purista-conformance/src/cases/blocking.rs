//! Handlers that compute or block: they hold their thread, and nothing else.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use parking_lot::{Condvar, Mutex};
use purista_core::{
    Capability, CommandOptions, Context, ErrorKind, EventBridge, Filter, HandlerError, Message, Payload,
    SubscriptionOptions,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    case::{Case, Outcome, case},
    probe::{Collector, echo, eventually, on_command, on_event},
    profile::DeploymentOptions,
    stage::{LEASE, PATIENCE, Stage},
};

pub(super) const CASES: &[Case] = &[case!("LIM-6", handlers_that_compute_delay_nobody)];

/// How many handlers may run, and have to, at once.
const AT_ONCE: usize = 4;

/// What a handler does with its thread.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Work {
    /// It gives it back at once.
    Quick,
    /// It holds it until so many handlers do so as may.
    Meet,
    /// The same, after it has waited for something.
    MeetLater,
    /// It holds it until the trial is through.
    Hold,
    /// It holds it for longer than the broker waits for a sign of life.
    OutliveLease,
}

/// Where handlers meet without giving their threads back.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    meetings: usize,
    held: usize,
    is_over: bool,
}

impl Meeting {
    /// Does the work, and returns whether it took place as it should.
    async fn work(&self, work: Work) -> bool {
        match work {
            Work::Quick => true,
            Work::Meet => self.meet(),
            Work::MeetLater => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.meet()
            }
            Work::Hold => self.hold(6 * PATIENCE),
            Work::OutliveLease => !self.hold(2 * LEASE + Duration::from_secs(1)),
        }
    }

    fn meet(&self) -> bool {
        let mut state = self.state.lock();
        state.waiting += 1;
        if state.waiting == AT_ONCE {
            state.waiting = 0;
            state.meetings += 1;
            self.changed.notify_all();
            return true;
        }
        let meetings = state.meetings;
        let waited = self.changed.wait_while_for(&mut state, |state| state.meetings == meetings, PATIENCE);
        if waited.timed_out() {
            state.waiting -= 1;
        }
        !waited.timed_out()
    }

    /// Returns whether it was let go.
    fn hold(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        state.held += 1;
        !self.changed.wait_while_for(&mut state, |state| !state.is_over, limit).timed_out()
    }

    async fn holds(&self, handlers: usize) -> Outcome {
        eventually("the handlers hold their threads", || async { Ok(self.state.lock().held >= handlers) })
            .await
    }

    fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }
}

/// Lets handlers go also when the trial fails: nothing else ends them.
struct EndsMeeting(Arc<Meeting>);

impl Drop for EndsMeeting {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn work_of(message: &Message) -> Result<Work, HandlerError> {
    let payload = message.payload().ok_or_else(|| HandlerError::unhandled("no work"))?;
    Ok(payload.deserialize()?)
}

async fn handlers_that_compute_delay_nobody(mut stage: Stage) -> Outcome {
    stage.redeploy(DeploymentOptions { lease: Some(LEASE), ..DeploymentOptions::default() }).await?;
    let (service, caller) = (stage.bridge().await?, stage.bridge().await?);
    let meeting = Arc::new(Meeting::default());
    let _ends = EndsMeeting(Arc::clone(&meeting));
    let (done, mut events) = mpsc::unbounded_channel();
    let commands = Arc::clone(&meeting);
    let command = on_command(move |context: Context| {
        let meeting = Arc::clone(&commands);
        async move { Ok(Some(Payload::json(&meeting.work(work_of(context.message())?).await)?)) }
    });
    let options = CommandOptions::default().with_max_concurrency(AT_ONCE);
    stage.serve(&*service, "compute", options, command).await?;
    let subscriptions = Arc::clone(&meeting);
    let subscription = on_event(move |context: Context| {
        let (meeting, done) = (Arc::clone(&subscriptions), done.clone());
        async move {
            let work = work_of(context.message())?;
            let as_it_should = meeting.work(work).await;
            done.send(as_it_should).map_err(|_| HandlerError::unhandled("the trial is over"))
        }
    });
    let options = SubscriptionOptions::default().with_max_concurrency(AT_ONCE);
    let filter = Filter::event(stage.unique("compute"));
    stage.subscribe(&*service, "compute", filter, options, subscription).await?;
    stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
    let watch = stage.watch(&*service, "watch", Filter::event(stage.unique("meanwhile"))).await?;
    stage.begin().await?;

    // Who was quick a thousand times may be slow the next time.
    let quick = (0..1_000).map(|_| stage.invoke(&*caller, "compute", &Work::Quick));
    stream::iter(quick).buffer_unordered(50).try_for_each(|_| std::future::ready(Ok(()))).await?;
    let emitter = Arc::clone(stage.emitter(&caller, &service));
    for work in [Work::Meet, Work::MeetLater, Work::Meet, Work::MeetLater] {
        all_at_once(&stage, &caller, work).await?;
        for _ in 0..AT_ONCE {
            stage.emit(&*emitter, "compute", &work).await?;
        }
        for _ in 0..AT_ONCE {
            let met = tokio::time::timeout(2 * PATIENCE, events.recv()).await?.context("no event")?;
            ensure!(met, "not all events that may be handled at once were: {work:?}");
        }
    }

    let held = stage.calling(&caller, "compute", Work::Hold);
    stage.emit(&*emitter, "compute", &Work::OutliveLease).await?;
    meeting.holds(2).await?;
    let handled = service.stats().handled;
    others_go_on(&stage, &service, &caller, &watch).await?;
    let lasted = tokio::time::timeout(2 * PATIENCE, events.recv()).await?.context("no event")?;
    ensure!(lasted, "it was let go too early");
    eventually("it is acknowledged", || async { Ok(service.stats().handled >= handled + 2) }).await?;
    meeting.end();
    held.await?.context("the call that was held")?;
    if service.capabilities().has(Capability::LongHandlers) {
        stage.emit(&*emitter, "compute", &Work::Quick).await?;
        let sentinel = tokio::time::timeout(PATIENCE, events.recv()).await?.context("no sentinel")?;
        ensure!(sentinel && events.try_recv().is_err(), "an event came twice");
    }
    let stats = service.stats();
    ensure!(stats.failed_attempts == 0 && stats.failed_acknowledgements == 0, "{stats:?}");
    Ok(())
}

/// Calls a handler as often as it may run at once, from one task, and then from as many.
async fn all_at_once(stage: &Stage, caller: &Arc<dyn EventBridge>, work: Work) -> Outcome {
    let joined =
        join_all((0..AT_ONCE).map(|_| stage.invoke_within(&**caller, "compute", &work, 2 * PATIENCE)));
    for answer in joined.await {
        let met: bool = answer?.payload().context("no result")?.deserialize()?;
        ensure!(met, "not all calls of one task ran at once: {work:?}");
    }
    let calls: Vec<_> = (0..AT_ONCE).map(|_| stage.calling(caller, "compute", work)).collect();
    for call in calls {
        let met: bool = call.await??.payload().context("no result")?.deserialize()?;
        ensure!(met, "not all calls of several tasks ran at once: {work:?}");
    }
    Ok(())
}

/// Looks that all else goes on while handlers hold their threads.
async fn others_go_on(
    stage: &Stage,
    service: &Arc<dyn EventBridge>,
    caller: &Arc<dyn EventBridge>,
    watch: &Collector,
) -> Outcome {
    let emitter = stage.emitter(caller, service);
    stage.invoke(&**caller, "echo", &"meanwhile").await.context("a call of another command")?;
    let in_hand = service.stats().in_hand;
    stage.emit(&**emitter, "meanwhile", &"meanwhile").await?;
    watch.sentinel("\"meanwhile\"").await?;
    let is_acknowledged = || async { Ok(service.stats().in_hand <= in_hand) };
    eventually("what another subscriber got is acknowledged", is_acknowledged).await?;
    let limit = Duration::from_millis(300);
    let late = stage.invoke_within(&**caller, "compute", &Work::Hold, limit).await;
    let kind = late.as_ref().err().and_then(purista_core::InvokeError::bridge_kind);
    ensure!(kind == Some(ErrorKind::Timeout), "the time limit of a call meanwhile: {late:?}");
    ensure!(service.health().is_healthy(), "{:?}", service.health());
    let other = stage.new_bridge()?;
    other.start().await.context("the start of another bridge")?;
    let report = other.shutdown(PATIENCE).await;
    ensure!(report.is_clean(), "the shutdown of another bridge: {report:?}");
    Ok(())
}
