use std::{future, mem, ops::Range, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use parking_lot::Mutex;
use purista_core::{
    Capabilities, Capability, Command, CommandDraft, CommandHandler, CommandOptions, EmitOptions, ErrorKind,
    EventBridge, EventDraft, Filter, InvokeError, InvokeOptions, Message, Name, Payload, Registration,
    ServiceAddress, Subscription, SubscriptionHandler, SubscriptionOptions,
};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{
    broker::Broker,
    probe::Collector,
    profile::{Deployment, DeploymentOptions, Profile},
};

/// How long a trial waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Emits as trials do that are about something else than time: on a busy machine, a broker may take long.
pub(crate) fn patient_emit() -> EmitOptions {
    EmitOptions::default().with_timeout(2 * PATIENCE)
}

/// How long a bridge may take to connect or to register, if nothing else is configured.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// The lease of trials that have to wait for the end of one.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// What one trial plays on: a deployment of its own, and names that no other trial has.
#[derive(Clone)]
pub struct Stage {
    profile: Arc<dyn Profile>,
    deployment: Arc<dyn Deployment>,
    scope: String,
    seed: u64,
    /// Bridges that start when all is registered.
    waiting: Arc<Mutex<Vec<Arc<dyn EventBridge>>>>,
}

impl Stage {
    pub(crate) async fn new(profile: Arc<dyn Profile>, row: &str, seed: u64) -> anyhow::Result<Self> {
        let deployment = profile.deploy(&DeploymentOptions::default()).await?;
        let scope = format!("{}{seed:016x}", row.replace('-', ""));
        Ok(Self { profile, deployment, scope, seed, waiting: Arc::default() })
    }

    /// Moves to a deployment with other options. Do this first.
    pub(crate) async fn redeploy(&mut self, options: DeploymentOptions) -> anyhow::Result<()> {
        self.deployment = self.profile.deploy(&options).await?;
        Ok(())
    }

    /// Finds the stage of another process.
    pub(crate) async fn reach(
        profile: Arc<dyn Profile>,
        location: &str,
        scope: String,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let deployment = profile.reach(location).await?;
        Ok(Self { profile, deployment, scope, seed, waiting: Arc::default() })
    }

    /// Moves to a broker of this trial's own, to break it; with a short lease, as what a broken connection held comes
    /// again at its end. Do this first.
    pub(crate) async fn own_broker(&mut self, options: DeploymentOptions) -> anyhow::Result<()> {
        self.redeploy(DeploymentOptions { own_broker: true, lease: Some(LEASE), ..options }).await?;
        self.broker().map(drop)
    }

    /// Returns the broker of this trial's own.
    pub(crate) fn broker(&self) -> anyhow::Result<&dyn Broker> {
        self.deployment.broker().context(
            "this row needs a broker of its own, to break it: is the address of a server configured?",
        )
    }

    /// Returns what the names of this trial have in common.
    pub(crate) fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the deployment.
    #[must_use]
    pub fn deployment(&self) -> &dyn Deployment {
        &*self.deployment
    }

    /// Returns the seed of this run, for what a trial does by chance.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Creates a bridge that is not started.
    ///
    /// # Errors
    ///
    /// Those of the adapter's builder.
    pub fn new_bridge(&self) -> anyhow::Result<Arc<dyn EventBridge>> {
        Ok(self.deployment.bridge()?)
    }

    /// Creates a bridge and starts it. If nothing can be registered after the start, it starts with the next
    /// [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// Those of the adapter.
    pub async fn bridge(&self) -> anyhow::Result<Arc<dyn EventBridge>> {
        let bridge = self.new_bridge()?;
        if bridge.capabilities().has(Capability::RegisterAfterStart) {
            bridge.start().await.context("start")?;
        } else {
            self.waiting.lock().push(Arc::clone(&bridge));
        }
        Ok(bridge)
    }

    /// Says that all is registered for what comes next: bridges that wait for that start now.
    ///
    /// # Errors
    ///
    /// Those of the adapter.
    pub async fn begin(&self) -> anyhow::Result<()> {
        let waiting = mem::take(&mut *self.waiting.lock());
        try_join_all(waiting.iter().map(|bridge| bridge.start())).await.context("start")?;
        Ok(())
    }

    /// Returns what the adapter claims.
    ///
    /// # Errors
    ///
    /// Those of the adapter's builder.
    pub fn claims(&self) -> anyhow::Result<Capabilities> {
        Ok(self.new_bridge()?.capabilities())
    }

    /// Makes a name that only this trial of this run has.
    #[must_use]
    pub fn unique(&self, name: &str) -> Name {
        format!("{name}{}", self.scope).into()
    }

    /// Makes an address that only this trial of this run has; the same for the same target.
    #[must_use]
    pub fn address(&self, target: &str) -> ServiceAddress {
        ServiceAddress::new(self.unique("Service"), "1", target)
    }

    /// Drafts an event that only this trial of this run has.
    ///
    /// # Errors
    ///
    /// If the content has no form in JSON.
    pub fn event(&self, name: &str, content: &(impl Serialize + ?Sized)) -> anyhow::Result<EventDraft> {
        Ok(EventDraft::event(self.address("emitter"), self.unique(name))
            .with_payload(Payload::json(content)?))
    }

    /// Emits an event.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn emit(
        &self,
        bridge: &dyn EventBridge,
        name: &str,
        content: &(impl Serialize + Sync + ?Sized),
    ) -> anyhow::Result<Arc<Message>> {
        let draft = self.event(name, content)?;
        bridge.emit_message(draft, &patient_emit()).await.context("emit")
    }

    /// Drafts a call of the command `target` of this trial.
    ///
    /// # Errors
    ///
    /// If the input has no form in JSON.
    pub fn call(&self, target: &str, input: &(impl Serialize + ?Sized)) -> anyhow::Result<CommandDraft> {
        let draft = CommandDraft::new(self.address("caller"), self.address(target));
        Ok(draft.with_payload(Payload::json(input)?))
    }

    /// Invokes the command `target` of this trial with a time limit.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn invoke_within(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        input: &(impl Serialize + Sync + ?Sized),
        timeout: Duration,
    ) -> Result<Arc<Message>, InvokeError> {
        let draft = CommandDraft::new(self.address("caller"), self.address(target));
        let options = InvokeOptions::default().with_timeout(timeout);
        bridge.invoke_command(draft.with_payload(Payload::json(input)?), &options).await
    }

    /// Invokes the command `target` of this trial.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn invoke(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        input: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Arc<Message>, InvokeError> {
        self.invoke_within(bridge, target, input, PATIENCE).await
    }

    /// Serves the command `target` of this trial.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn serve(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        options: CommandOptions,
        handler: Arc<dyn CommandHandler>,
    ) -> purista_core::Result<Registration> {
        bridge.register_command(Command::new(self.address(target)).with_options(options), handler).await
    }

    /// Subscribes as the subscriber `target` of this trial.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn subscribe(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        filter: Filter,
        options: SubscriptionOptions,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> purista_core::Result<Registration> {
        let subscription = Subscription::new(self.address(target), filter).with_options(options);
        bridge.register_subscription(subscription, handler).await
    }

    /// Subscribes as `target` to the event `name` of this trial with default options, and collects what comes.
    ///
    /// # Errors
    ///
    /// Those of the bridge.
    pub async fn collect(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        name: &str,
    ) -> anyhow::Result<Arc<Collector>> {
        let collector = Collector::new();
        let (filter, options) = (Filter::event(self.unique(name)), SubscriptionOptions::default());
        self.subscribe(bridge, target, filter, options, collector.handler()).await.context("subscribe")?;
        Ok(collector)
    }

    /// Subscribes as `target` with default options but one message at a time, and collects what comes.
    pub(crate) async fn watch(
        &self,
        bridge: &dyn EventBridge,
        target: &str,
        filter: Filter,
    ) -> anyhow::Result<Arc<Collector>> {
        let collector = Collector::new();
        let options = SubscriptionOptions::default().with_max_concurrency(1);
        self.subscribe(bridge, target, filter, options, collector.handler()).await.context("subscribe")?;
        Ok(collector)
    }

    /// Returns who emits what a service gets: somebody else if events get there.
    pub(crate) fn emitter<'a>(
        &self,
        other: &'a Arc<dyn EventBridge>,
        service: &'a Arc<dyn EventBridge>,
    ) -> &'a Arc<dyn EventBridge> {
        if self.deployment().events_cross_bridges() { other } else { service }
    }

    /// Emits an event with each of the numbers, many at once and in no order.
    pub(crate) async fn emit_each(
        &self,
        bridge: &dyn EventBridge,
        name: &str,
        numbers: Range<usize>,
    ) -> anyhow::Result<()> {
        let emits = numbers.map(|number| async move { self.emit(bridge, name, &number).await });
        stream::iter(emits).buffer_unordered(100).try_for_each(|_| future::ready(Ok(()))).await
    }

    /// Emits an event, and waits for the broker as long as is said.
    pub(crate) async fn emit_within(
        &self,
        bridge: &dyn EventBridge,
        name: &str,
        content: &(impl Serialize + Sync + ?Sized),
        timeout: Duration,
    ) -> purista_core::Result<Arc<Message>> {
        let draft = EventDraft::event(self.address("emitter"), self.unique(name));
        let options = EmitOptions::default().with_timeout(timeout);
        bridge.emit_message(draft.with_payload(Payload::json(content)?), &options).await
    }

    /// Invokes the command `target` of this trial on a task of its own.
    pub(crate) fn calling(
        &self,
        bridge: &Arc<dyn EventBridge>,
        target: &'static str,
        input: impl Serialize + Send + Sync + 'static,
    ) -> JoinHandle<Result<Arc<Message>, InvokeError>> {
        self.calling_within(bridge, target, input, PATIENCE)
    }

    /// Does so with a time limit.
    pub(crate) fn calling_within(
        &self,
        bridge: &Arc<dyn EventBridge>,
        target: &'static str,
        input: impl Serialize + Send + Sync + 'static,
        limit: Duration,
    ) -> JoinHandle<Result<Arc<Message>, InvokeError>> {
        let (stage, bridge) = (self.clone(), Arc::clone(bridge));
        tokio::spawn(async move { stage.invoke_within(&*bridge, target, &input, limit).await })
    }

    /// Checks that a subscription with these options is refused for want of a capability before anything is on the
    /// broker.
    pub(crate) async fn refuses(
        &self,
        options: SubscriptionOptions,
        capability: Capability,
    ) -> anyhow::Result<()> {
        let bridge = self.bridge().await?;
        self.begin().await?;
        let before = self.deployment.routes().await?;
        let filter = Filter::event(self.unique("refused"));
        let refused = self.subscribe(&*bridge, "refused", filter, options, Collector::new().handler()).await;
        let error = refused.err().with_context(|| format!("{capability} was granted and is not claimed"))?;
        ensure!(error.kind() == ErrorKind::Unsupported(capability), "{error:?}");
        let after = self.deployment.routes().await?;
        ensure!(after == before, "{before} routes became {after}");
        Ok(())
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("scope", &self.scope).finish_non_exhaustive()
    }
}
