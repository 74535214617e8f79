use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream;
use futures_util::future::BoxFuture;
use purista_core::EventBridge as _;
use purista_nats::NatsBridge;
use tokio::task::JoinHandle;

/// Who takes part in a scenario.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    play: Box<dyn Fn(Duration) -> BoxFuture<'static, anyhow::Result<Sample>> + Send + Sync>,
}

/// What was measured in one round: the values of the scenario, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    pub(crate) values: Vec<f64>,
}

impl Contender {
    pub(crate) fn new<F>(name: &'static str, play: impl Fn(Duration) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<Sample>> + Send + 'static,
    {
        Self { name, play: Box::new(move |time| Box::pin(play(time))) }
    }

    /// Plays for a time.
    pub(crate) async fn play(&self, time: Duration) -> anyhow::Result<Sample> {
        (self.play)(time).await
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

/// The contenders of a scenario, and what has to be ended after it.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) bridges: Vec<Arc<NatsBridge>>,
    /// The raw side's services and consumers.
    pub(crate) tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    pub(crate) streams: Option<(jetstream::Context, Vec<String>)>,
}

impl Stage {
    /// Ends everything, so that the next scenario has the server for itself.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        for bridge in &self.bridges {
            bridge.shutdown(Duration::from_secs(5)).await;
        }
        for task in &self.tasks {
            task.abort();
        }
        if let Some((context, names)) = &self.streams {
            for name in names {
                context.delete_stream(name).await?;
            }
        }
        Ok(())
    }
}
