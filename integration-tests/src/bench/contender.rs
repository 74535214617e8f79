use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures_util::future::BoxFuture;
use purista_core::EventBridge;
use tokio::task::JoinHandle;

use super::{drive, handled::Handled};
use crate::dapr::Sidecar;

/// Who takes part in a scenario.
pub struct Contender {
    pub(super) name: &'static str,
    play: Box<dyn Fn(Duration) -> BoxFuture<'static, anyhow::Result<Sample>> + Send + Sync>,
}

/// What was measured in one round: the values of the scenario, in its order.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) operations: u64,
    pub(super) values: Vec<f64>,
}

/// What a round of events has to wait for.
#[derive(Clone)]
pub struct Consumed {
    handled: Arc<Handled>,
    settle: Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
}

impl Consumed {
    /// The handlers, and after them `settle`.
    pub fn new<F>(handled: Arc<Handled>, settle: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { handled, settle: Arc::new(move || Box::pin(settle())) }
    }
}

impl Contender {
    fn new<F>(name: &'static str, play: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<Sample>> + Send + 'static,
    {
        Self { name, play: Box::new(move |time| Box::pin(play(time))) }
    }

    /// Keeps so many calls in flight, and measures how many are done in a second; calls one after the other if it is
    /// one, and measures how long the calls take.
    pub fn of_calls<C, F>(name: &'static str, in_flight: usize, call: C) -> Self
    where
        C: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self::new(name, move |time: Duration| {
            let call = call.clone();
            async move {
                match in_flight {
                    1 => drive::one_by_one(time, call).await,
                    tasks => drive::per_second(tasks, time, call).await,
                }
            }
        })
    }

    /// Keeps so many emits in flight, and measures how many are done in a second: emitted, and handled and settled if
    /// there is somebody to do that.
    pub fn of_events<C, F>(name: &'static str, in_flight: usize, consumed: Option<Consumed>, emit: C) -> Self
    where
        C: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self::new(name, move |time| {
            let (consumed, emit) = (consumed.clone(), emit.clone());
            async move {
                match consumed {
                    None => drive::per_second(in_flight, time, emit).await,
                    Some(consumed) => round(in_flight, time, emit, &consumed).await,
                }
            }
        })
    }

    /// Plays for a time.
    pub(super) async fn play(&self, time: Duration) -> anyhow::Result<Sample> {
        (self.play)(time).await
    }
}

/// Emits for a time; the round ends when all is handled and settled.
async fn round<C, F>(in_flight: usize, time: Duration, emit: C, consumed: &Consumed) -> anyhow::Result<Sample>
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let handled = &consumed.handled;
    let (before, begin) = (handled.count(), Instant::now());
    let emitted = drive::in_flight(in_flight, time, emit).await?;
    handled.reach(before + emitted).await;
    (consumed.settle)().await?;
    let sample = drive::rate(emitted, begin);
    ensure!(handled.count() == before + emitted, "more was handled than emitted");
    Ok(sample)
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

impl fmt::Debug for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumed").field(&self.handled).finish()
    }
}

/// The contenders of a scenario, and what has to be ended after it.
#[derive(Default)]
pub struct Stage {
    pub(super) contenders: Vec<Contender>,
    bridges: Vec<Arc<dyn EventBridge>>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    pub(super) sidecars: Vec<Sidecar>,
    ends: Vec<BoxFuture<'static, anyhow::Result<()>>>,
    pub(super) notes: Vec<String>,
}

impl Stage {
    /// Lets somebody take part.
    pub fn add(&mut self, contender: Contender) {
        self.contenders.push(contender);
    }

    /// Shuts a bridge down at the end.
    pub fn keep_bridge(&mut self, bridge: Arc<dyn EventBridge>) {
        self.bridges.push(bridge);
    }

    /// Aborts a service or a consumer of the raw side at the end.
    pub fn keep_task(&mut self, task: JoinHandle<anyhow::Result<()>>) {
        self.tasks.push(task);
    }

    /// Counts a sidecar to the server, and ends it at the end, after bridges and tasks.
    pub fn keep_sidecar(&mut self, sidecar: Sidecar) {
        self.sidecars.push(sidecar);
    }

    /// Does something at the end, after bridges, tasks and sidecars; what was said last is done first.
    pub fn at_end(&mut self, end: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.ends.push(Box::pin(end));
    }

    /// Tells something beside the table.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Ends everything, so that the next scenario has the server for itself.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        drop(self.contenders);
        for bridge in &self.bridges {
            bridge.shutdown(Duration::from_secs(5)).await;
        }
        for task in self.tasks {
            task.abort();
            match task.await {
                Ok(ended) => ended?,
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error.into()),
            }
        }
        drop(self.sidecars);
        for end in self.ends.into_iter().rev() {
            end.await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stage").field(&self.contenders).finish()
    }
}
