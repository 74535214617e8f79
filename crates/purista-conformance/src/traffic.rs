//! Events and calls that go on whatever happens to the broker, and the books about them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::ready,
    stream::{self, FuturesUnordered},
};
use parking_lot::Mutex;
use purista_core::{
    BridgeEvent, BridgeEvents, Capability, CommandOptions, EventBridge, Filter, SubscriptionOptions,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use crate::{
    case::Outcome,
    ledger::Ledger,
    probe::{bookkeeper, echo, eventually, grows_to, within},
    stage::Stage,
};

/// Within which time a bridge works again once nothing stands in its way: 5 seconds, and as many for a busy machine.
pub(crate) const RECOVERY: Duration = Duration::from_secs(10);

/// A caller, a service, and a steady flow of events from one to the other, or within it if no other is reached: to the subscriber `books` of the stage,
/// whose messages the broker keeps if the adapter can have it do so.
pub(crate) struct Traffic {
    pub(crate) caller: Arc<dyn EventBridge>,
    pub(crate) service: Arc<dyn EventBridge>,
    stage: Stage,
    ledger: Arc<Ledger>,
    flow: Arc<Flow>,
    task: JoinHandle<()>,
    is_kept: bool,
}

impl Traffic {
    /// Starts both bridges and the flow. What is taken over before [`must_arrive`](Self::must_arrive) may be lost.
    pub(crate) async fn begin(stage: &Stage) -> Result<Self> {
        let (caller, service) = (stage.bridge().await?, stage.new_bridge()?);
        let (ledger, filter) = (Arc::new(Ledger::default()), Filter::event(stage.unique("event")));
        let books = bookkeeper(&ledger);
        let registered = stage.subscribe(&*service, "books", filter, SubscriptionOptions::default(), books);
        let registration = registered.await?;
        stage.serve(&*service, "echo", CommandOptions::default(), echo()).await?;
        stage.begin().await?;
        service.start().await?;
        let confirms = caller.capabilities().has(Capability::BrokerConfirm);
        let flow = Arc::new(Flow {
            stage: stage.clone(),
            emitter: Arc::clone(stage.emitter(&caller, &service)),
            ledger: Arc::clone(&ledger),
            next: AtomicU64::new(0),
            must_arrive: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            broken: Mutex::default(),
        });
        let task = Flow::begin(&flow);
        let is_kept = registration.granted().durable && confirms;
        let traffic = Self { caller, service, stage: stage.clone(), ledger, flow, task, is_kept };
        traffic.flows(100).await.context("before anything is broken")?;
        Ok(traffic)
    }

    /// Returns whether an event that was taken over arrives also if a connection breaks meanwhile: the broker says that
    /// it has it, and keeps it.
    pub(crate) const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Sets whether what the broker takes over from now on must arrive.
    pub(crate) fn must_arrive(&self, must: bool) {
        self.flow.must_arrive.store(must, SeqCst);
    }

    /// Fails if the flow has ended early.
    pub(crate) fn check(&self) -> Outcome {
        self.flow.check()
    }

    /// Returns both bridges.
    pub(crate) fn bridges(&self) -> [&dyn EventBridge; 2] {
        [&*self.caller, &*self.service]
    }

    /// Waits until so many more events are handled.
    pub(crate) async fn flows(&self, events: usize) -> Outcome {
        let wanted = self.ledger.handled_count() + events;
        let came = || async {
            self.flow.check()?;
            Ok(self.ledger.handled_count() >= wanted)
        };
        eventually(&format!("{events} more events are handled"), came).await
    }

    /// Emits so many events as fast as the broker takes them over, and waits until as many are handled.
    pub(crate) async fn surges(&self, events: usize) -> Outcome {
        let wanted = self.ledger.handled_count() + events;
        let emits = stream::iter((0..events).map(|_| self.flow.emit_next())).buffer_unordered(Flow::AT_ONCE);
        emits.try_for_each(|()| ready(Ok(()))).await?;
        grows_to(wanted, "events of a surge", || self.ledger.handled_count()).await
    }

    /// Waits until both bridges know that they are cut off.
    pub(crate) async fn is_noticed_within(&self, limit: Duration) -> Outcome {
        let is_noticed = || async { Ok(self.bridges().iter().all(|bridge| !bridge.health().connected)) };
        within(limit, "both bridges notice that they are cut off", is_noticed).await
    }

    /// Waits until events that are emitted from now on are handled, and calls are answered.
    pub(crate) async fn recovers(&self) -> Outcome {
        let deadline = Instant::now() + RECOVERY;
        let next = self.flow.next.load(SeqCst);
        let comes_again = || async {
            self.flow.check()?;
            Ok(self.ledger.has_handled_from(next))
        };
        within(RECOVERY, "events arrive again", comes_again).await.with_context(|| self.state())?;
        let answered = timeout_at(deadline, self.is_answered()).await;
        answered.with_context(|| format!("no call is answered again: {}", self.state()))?
    }

    async fn is_answered(&self) -> Outcome {
        let mut poll = interval(Duration::from_millis(20));
        loop {
            poll.tick().await;
            let limit = Duration::from_millis(500);
            match self.stage.invoke_within(&*self.caller, "echo", &0, limit).await {
                Ok(_) => return Ok(()),
                Err(error) if error.bridge_kind().is_some_and(|kind| kind.is_temporary()) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until both bridges are well. From then on everything must arrive.
    pub(crate) async fn settles(&self) -> Outcome {
        let is_well = || async { Ok(self.bridges().iter().all(|bridge| bridge.health().is_healthy())) };
        within(RECOVERY, "both bridges are well", is_well).await.with_context(|| self.state())?;
        self.must_arrive(true);
        Ok(())
    }

    /// Ends the flow when all is well, and balances the books. The bridges stay.
    pub(crate) async fn ends(&mut self) -> Outcome {
        self.settles().await?;
        self.flows(100).await?;
        self.flow.is_over.store(true, SeqCst);
        (&mut self.task).await?;
        self.flow.check()?;
        let all_came = || async { Ok(self.ledger.balance().lost.is_empty()) };
        let came = eventually("what the broker took over arrives", all_came).await;
        came.with_context(|| format!("lost: {:?}", self.ledger.balance().lost))?;
        let balance = self.ledger.balance();
        ensure!(balance.is_at_least_once(), "{balance:?}");
        for bridge in self.bridges() {
            let stats = bridge.stats();
            // A number that does not arrive as it was sent is malformed, or fails its handler.
            let harm = [stats.malformed, stats.failed_attempts, stats.panicked, stats.dead_lettered];
            ensure!(harm == [0; 4], "not everything arrived as it was sent: {stats:?}");
        }
        Ok(())
    }

    /// Lets the flow go on after its end.
    pub(crate) fn goes_on(&mut self) {
        self.flow.is_over.store(false, SeqCst);
        self.task = Flow::begin(&self.flow);
    }

    fn state(&self) -> String {
        format!("caller: {:?}, service: {:?}", self.caller.health(), self.service.health())
    }
}

/// The emits of [`Traffic`].
struct Flow {
    stage: Stage,
    emitter: Arc<dyn EventBridge>,
    ledger: Arc<Ledger>,
    next: AtomicU64,
    must_arrive: AtomicBool,
    is_over: AtomicBool,
    /// Why the flow has ended early.
    broken: Mutex<Option<Error>>,
}

impl Flow {
    /// How long one emit waits for the broker.
    const LIMIT: Duration = Duration::from_secs(2);

    /// How many emits wait at once, so that not too many do during an outage.
    const AT_ONCE: usize = 64;

    /// The time between two emits, which leaves the machine to the trials beside this one.
    const PACE: Duration = Duration::from_millis(2);

    fn begin(flow: &Arc<Self>) -> JoinHandle<()> {
        let flow = Arc::clone(flow);
        tokio::spawn(async move {
            if let Err(error) = flow.run().await {
                *flow.broken.lock() = Some(error);
            }
        })
    }

    async fn run(&self) -> Outcome {
        let mut pace = interval(Self::PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut emits = FuturesUnordered::new();
        while !self.is_over.load(SeqCst) {
            tokio::select! {
                Some(done) = emits.next() => done?,
                _ = pace.tick(), if emits.len() < Self::AT_ONCE => emits.push(self.emit_next()),
            }
        }
        emits.try_collect().await
    }

    async fn emit_next(&self) -> Outcome {
        let number = self.next.fetch_add(1, SeqCst);
        let must_arrive = self.must_arrive.load(SeqCst);
        // It may be handled before emit returns, and also if that fails.
        self.ledger.unknown(number);
        match self.stage.emit_within(&*self.emitter, "event", &number, Self::LIMIT).await {
            Ok(_) if must_arrive => self.ledger.ok(number),
            Err(error) if !error.kind().is_temporary() => return Err(error).context("emit"),
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    /// Fails if the flow has ended early.
    fn check(&self) -> Outcome {
        self.broken.lock().take().map_or(Ok(()), Err)
    }
}

/// Reads the events of a bridge until there is the one that is looked for.
pub(crate) async fn tells(
    events: &mut BridgeEvents,
    what: &str,
    is_it: impl Fn(&BridgeEvent) -> bool + Send + Sync,
) -> Outcome {
    let mut before = Vec::new();
    let told = timeout(RECOVERY, async {
        while let Some(event) = events.next().await {
            if is_it(&event) {
                return Ok(());
            }
            before.push(event);
        }
        bail!("the bridge is gone")
    });
    let told = told.await;
    told.with_context(|| format!("it does not tell of {what} within {RECOVERY:?}, but of {before:?}"))?
}
