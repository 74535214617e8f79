//! Handlers that show what happened.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use parking_lot::Mutex;
use purista_core::{
    BridgeState, CommandHandler, Context, EventBridge, HandlerError, Id, Message, MessageType, Payload,
    ShutdownReport, SubscriptionHandler,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::Instant,
};

use crate::{ledger::Ledger, stage::PATIENCE};

/// Makes a command's handler of a closure over whole messages.
pub fn on_command<F, Fut>(function: F) -> Arc<dyn CommandHandler>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Payload>, HandlerError>> + Send + 'static,
{
    Arc::new(Function(function))
}

/// Makes a subscription's handler of a closure over whole messages.
pub fn on_event<F, Fut>(function: F) -> Arc<dyn SubscriptionHandler>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    Arc::new(Function(function))
}

struct Function<F>(F);

#[async_trait]
impl<F, Fut> CommandHandler for Function<F>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Payload>, HandlerError>> + Send + 'static,
{
    async fn handle(&self, context: Context) -> Result<Option<Payload>, HandlerError> {
        (self.0)(context).await
    }
}

#[async_trait]
impl<F, Fut> SubscriptionHandler for Function<F>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        (self.0)(context).await
    }
}

/// Serves a command by returning its input.
pub(crate) fn echo() -> Arc<dyn CommandHandler> {
    on_command(|context| async move { Ok(context.message().payload().cloned()) })
}

/// Collects the messages a subscription gets.
#[derive(Debug, Default)]
pub struct Collector {
    seen: Mutex<Vec<Seen>>,
    came: Notify,
}

/// One delivery.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message: Arc<Message>,
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
}

impl Collector {
    /// Creates an empty collector.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns it as the handler of a subscription.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> Arc<dyn SubscriptionHandler> {
        Arc::<Self>::clone(self)
    }

    /// Adds a delivery.
    pub fn record(&self, context: &Context) {
        let seen =
            Seen { message: Arc::clone(context.message()), attempt: context.attempt(), at: Instant::now() };
        self.seen.lock().push(seen);
        self.came.notify_waiters();
    }

    /// Returns how many deliveries came.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// Returns what came, in the order it came.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.seen.lock().iter().map(|seen| Arc::clone(&seen.message)).collect()
    }

    /// Forgets what came.
    pub(crate) fn clear(&self) {
        self.seen.lock().clear();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Returns the payloads of what came as JSON text, in the order it came.
    #[must_use]
    pub fn payloads(&self) -> Vec<String> {
        let text = |message: Arc<Message>| {
            message.payload().map_or_else(String::new, |payload| payload.as_str().to_owned())
        };
        self.messages().into_iter().map(text).collect()
    }

    /// Waits until at least so many deliveries came.
    ///
    /// # Errors
    ///
    /// If no more came within the patience of a trial.
    pub async fn at_least(&self, wanted: usize) -> Result<()> {
        loop {
            let before = self.count();
            if self.until(|seen| seen.len() >= wanted).await.is_ok() {
                return Ok(());
            }
            let count = self.count();
            ensure!(count > before, "{count} of {wanted} deliveries, and no more within {PATIENCE:?}");
        }
    }

    /// Waits until a delivery has this payload, as JSON text: a sentinel.
    ///
    /// # Errors
    ///
    /// If it did not come within the patience of a trial.
    pub async fn sentinel(&self, payload: &str) -> Result<()> {
        let is_it = |seen: &Seen| seen.message.payload().is_some_and(|known| known.as_str() == payload);
        self.until(|seen| seen.iter().any(is_it))
            .await
            .map_err(|_| anyhow::anyhow!("the sentinel {payload} did not come; seen: {:?}", self.payloads()))
    }

    /// Waits until a message of this type with this id came, and returns it.
    pub(crate) async fn message(&self, message_type: MessageType, id: &Id) -> Result<Arc<Message>> {
        let is_it = |seen: &Seen| seen.message.message_type() == message_type && seen.message.id == *id;
        self.until(|seen| seen.iter().any(is_it)).await?;
        let seen = self.seen.lock();
        seen.iter().find(|seen| is_it(seen)).map(|seen| Arc::clone(&seen.message)).context("it came and went")
    }

    async fn until(&self, done: impl Fn(&[Seen]) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if done(&self.seen.lock()) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, came).await.is_err() {
                bail!("not within {PATIENCE:?}");
            }
        }
    }
}

#[async_trait]
impl SubscriptionHandler for Collector {
    async fn handle(&self, context: Context) -> Result<(), HandlerError> {
        self.record(&context);
        Ok(())
    }
}

/// Holds handlers until it is opened, and counts those that came.
#[derive(Debug)]
pub struct Latch {
    open: Semaphore,
    waiting: Mutex<usize>,
    most: Mutex<usize>,
    came: Notify,
}

impl Latch {
    /// Creates a closed latch.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            open: Semaphore::new(0),
            waiting: Mutex::default(),
            most: Mutex::default(),
            came: Notify::new(),
        })
    }

    /// Waits in a handler until the latch lets it through. Cancel safe.
    pub async fn pass(&self) {
        let _inside = Inside::enter(self);
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
    }

    /// Lets so many through.
    pub fn let_through(&self, handlers: usize) {
        self.open.add_permits(handlers);
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        self.open.close();
    }

    /// Returns how many wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        *self.waiting.lock()
    }

    /// Returns how many have waited at once at the most.
    #[must_use]
    pub fn most(&self) -> usize {
        *self.most.lock()
    }

    /// Waits until so many wait at once.
    ///
    /// # Errors
    ///
    /// If they did not come within the patience of a trial.
    pub async fn reached(&self, handlers: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if self.waiting() >= handlers {
                return Ok(());
            }
            let in_time = tokio::time::timeout_at(deadline, came).await.is_ok();
            ensure!(in_time, "{} of {handlers} handlers came within {PATIENCE:?}", self.waiting());
        }
    }
}

struct Inside<'a>(&'a Latch);

impl<'a> Inside<'a> {
    fn enter(latch: &'a Latch) -> Self {
        let waiting = {
            let mut waiting = latch.waiting.lock();
            *waiting += 1;
            *waiting
        };
        let mut most = latch.most.lock();
        *most = waiting.max(*most);
        drop(most);
        latch.came.notify_waiters();
        Self(latch)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() -= 1;
    }
}

/// Waits until a condition holds that nothing tells of, such as a count at the broker.
pub(crate) async fn eventually<F, Fut>(what: &str, holds: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    within(PATIENCE, what, holds).await
}

/// Waits until a condition holds that nothing tells of, and no longer than is said.
pub(crate) async fn within<F, Fut>(limit: Duration, what: &str, mut holds: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let deadline = Instant::now() + limit;
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while !holds().await? {
        ensure!(Instant::now() < deadline, "not within {limit:?}: {what}");
        poll.tick().await;
    }
    Ok(())
}

impl Latch {
    /// Serves a command by recording what comes, and returning its input once it is let through.
    pub(crate) fn command(self: &Arc<Self>, seen: &Arc<Collector>) -> Arc<dyn CommandHandler> {
        let (latch, seen) = (Arc::clone(self), Arc::clone(seen));
        on_command(move |context| {
            let latch = Arc::clone(&latch);
            seen.record(&context);
            async move {
                latch.pass().await;
                Ok(context.message().payload().cloned())
            }
        })
    }

    /// Serves a subscription by recording what comes, and holding it until it is let through.
    pub(crate) fn subscription(self: &Arc<Self>, seen: &Arc<Collector>) -> Arc<dyn SubscriptionHandler> {
        let (latch, seen) = (Arc::clone(self), Arc::clone(seen));
        on_event(move |context| {
            let latch = Arc::clone(&latch);
            seen.record(&context);
            async move {
                latch.pass().await;
                Ok(())
            }
        })
    }
}

/// Serves a subscription to numbers by noting them in the books.
pub(crate) fn bookkeeper(ledger: &Arc<Ledger>) -> Arc<dyn SubscriptionHandler> {
    let ledger = Arc::clone(ledger);
    on_event(move |context| {
        let number = context.message().payload().map(Payload::deserialize);
        let ledger = Arc::clone(&ledger);
        async move {
            ledger.handled(number.ok_or_else(|| HandlerError::unhandled("no number"))??);
            Ok(())
        }
    })
}

/// Waits until a count that grows is large enough, as long as it goes on growing.
pub(crate) async fn grows_to(wanted: usize, what: &str, count: impl Fn() -> usize) -> Result<()> {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    let (mut known, mut deadline) = (0, Instant::now() + PATIENCE);
    while known < wanted {
        let now = count();
        if now > known {
            (known, deadline) = (now, Instant::now() + PATIENCE);
        }
        ensure!(Instant::now() < deadline, "{known} of {wanted} {what}, and no more within {PATIENCE:?}");
        poll.tick().await;
    }
    Ok(())
}

/// Has a bridge shut down, and waits until it has begun to.
pub(crate) async fn begin_shutdown(
    bridge: &Arc<dyn EventBridge>,
    grace: Duration,
) -> Result<JoinHandle<ShutdownReport>> {
    let (shutdown, leaving) =
        (Arc::clone(bridge), || async { Ok(bridge.health().state >= BridgeState::Draining) });
    let shutdown = tokio::spawn(async move { shutdown.shutdown(grace).await });
    eventually("it begins to shut down", leaving).await?;
    Ok(shutdown)
}
