use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use purista_core::{
    BridgeEvents, BridgeState, Capabilities, Command, CommandDraft, CommandHandler, DeadLetters, EmitOptions,
    EventBridge, EventDraft, Health, Id, InvokeError, InvokeOptions, Message, Name, Registration, Result,
    ServiceAddress, ShutdownReport, Stats, Subscription, SubscriptionHandler, adapter::async_trait,
};
use purista_dapr::DaprBridge;
use purista_integration_tests::dapr::{Sidecar, SidecarConfig};

use super::{fleet::Fleet, wire::unavailable};

/// How many messages a sidecar takes from a durable component and calls its app with, at once; all without it.
pub(crate) const PREFETCHED: u8 = 255;

/// A bridge whose sidecar comes and goes with it, as that of a pod does. What is registered says which app it is:
/// instances of one app subscribe to the same or, if they do not subscribe, serve the same.
#[derive(Debug)]
pub(crate) struct Instance(Arc<Member>);

/// A bridge and its sidecar.
pub(crate) struct Member {
    bridge: DaprBridge,
    fleet: Arc<Fleet>,
    http_port: u16,
    app_port: u16,
    registered: Mutex<Registered>,
    sidecar: Mutex<Option<Arc<Sidecar>>>,
    /// Held while the sidecar comes or goes.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Registered {
    commands: Vec<ServiceAddress>,
    /// With the events that they name.
    subscribers: HashMap<ServiceAddress, Option<Name>>,
}

impl Registered {
    fn app_id(&self, instance_id: &Id) -> String {
        app_id_of(&self.commands, self.subscribers.keys(), instance_id)
    }
}

/// Returns which app it is that registers this.
pub(crate) fn app_id_of<'a>(
    commands: &[ServiceAddress],
    subscribers: impl IntoIterator<Item = &'a ServiceAddress>,
    instance_id: &str,
) -> String {
    let subscribers: BTreeSet<_> = subscribers.into_iter().map(ToString::to_string).collect();
    let commands: BTreeSet<_> = commands.iter().map(ToString::to_string).collect();
    let (kind, of_all) = match (subscribers.is_empty(), commands.is_empty()) {
        (false, _) => ("subscriber", subscribers),
        (true, false) => ("service", commands),
        (true, true) => return format!("caller-{instance_id}"),
    };
    let mut hasher = DefaultHasher::new();
    of_all.hash(&mut hasher);
    format!("{kind}-{:016x}", hasher.finish())
}

impl Instance {
    pub(crate) fn new(bridge: DaprBridge, fleet: &Arc<Fleet>, http_port: u16, app_port: u16) -> Self {
        let member = Arc::new(Member {
            bridge,
            fleet: Arc::clone(fleet),
            http_port,
            app_port,
            registered: Mutex::default(),
            sidecar: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        fleet.add(&member);
        Self(member)
    }
}

/// What the bridge shows: the sidecar's configuration has the tokens.
impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bridge.fmt(f)
    }
}

impl Member {
    pub(crate) fn sidecar(&self) -> Option<Arc<Sidecar>> {
        self.sidecar.lock().clone()
    }

    /// Waits until the sidecar neither comes nor goes, and keeps it so.
    pub(crate) async fn alone(&self) -> impl Drop {
        self.changing.lock().await
    }

    pub(crate) const fn app_port(&self) -> u16 {
        self.app_port
    }

    pub(crate) fn app_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.app_port)
    }

    /// Returns the commands that are served.
    pub(crate) fn commands(&self) -> Vec<ServiceAddress> {
        self.registered.lock().commands.clone()
    }

    /// Returns the event that a subscriber names, if it is one of this bridge.
    pub(crate) fn event_of(&self, subscriber: &ServiceAddress) -> Option<Option<Name>> {
        self.registered.lock().subscribers.get(subscriber).cloned()
    }

    async fn start(&self) -> Result<()> {
        self.start_sidecar().await?;
        let started = self.bridge.start().await;
        if self.bridge.health().state == BridgeState::ShutDown {
            self.end_sidecar().await;
        }
        started
    }

    async fn start_sidecar(&self) -> Result<()> {
        let _alone = self.alone().await;
        let is_new = self.sidecar().is_none() && self.bridge.health().state == BridgeState::Created;
        if is_new && !self.fleet.is_down() {
            let sidecar = Sidecar::start(self.config()?).await.map_err(unavailable)?;
            *self.sidecar.lock() = Some(Arc::new(sidecar));
        }
        Ok(())
    }

    fn config(&self) -> Result<SidecarConfig> {
        let app_id = {
            let registered = self.registered.lock();
            let app_id = registered.app_id(self.bridge.instance_id());
            let mut apps = self.fleet.apps.lock();
            apps.extend(registered.commands.iter().map(|command| (command.clone(), app_id.clone())));
            app_id
        };
        let Fleet { component, registry, security, .. } = &*self.fleet;
        let port = self.fleet.port_for_sidecar(self.app_port)?;
        let config = SidecarConfig::new(&app_id, port, component.clone(), registry)
            .with_http_port(self.http_port)
            // Otherwise it calls the app at once with all that waits.
            .with_component_metadata("prefetchCount", PREFETCHED.to_string());
        Ok(match security {
            Some(security) => security.configure_sidecar(&app_id, config),
            None => config,
        })
    }

    async fn end_sidecar(&self) {
        let _alone = self.alone().await;
        let sidecar = self.sidecar.lock().take();
        if let Some(sidecar) = sidecar {
            // A trial may have killed it.
            let _ended = sidecar.process().terminate().await;
        }
    }
}

#[async_trait]
impl EventBridge for Instance {
    fn name(&self) -> &'static str {
        self.0.bridge.name()
    }

    fn instance_id(&self) -> &Id {
        self.0.bridge.instance_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.bridge.capabilities()
    }

    async fn start(&self) -> Result<()> {
        let member = Arc::clone(&self.0);
        tokio::spawn(async move { member.start().await }).await.map_err(unavailable)?
    }

    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>> {
        self.0.bridge.emit_message(draft, options).await
    }

    async fn invoke_command(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
    ) -> Result<Arc<Message>, InvokeError> {
        self.0.bridge.invoke_command(draft, options).await
    }

    async fn register_command(
        &self,
        command: Command,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Registration> {
        let registration = self.0.bridge.register_command(command, handler).await?;
        self.0.registered.lock().commands.push(registration.address().clone());
        Ok(registration)
    }

    async fn register_subscription(
        &self,
        subscription: Subscription,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> Result<Registration> {
        let event = subscription.filter.event_name.clone();
        let registration = self.0.bridge.register_subscription(subscription, handler).await?;
        self.0.registered.lock().subscribers.insert(registration.address().clone(), event);
        Ok(registration)
    }

    fn health(&self) -> Health {
        self.0.bridge.health()
    }

    fn events(&self) -> BridgeEvents {
        self.0.bridge.events()
    }

    fn stats(&self) -> Stats {
        self.0.bridge.stats()
    }

    fn dead_letters(&self) -> Result<Arc<dyn DeadLetters>> {
        self.0.bridge.dead_letters()
    }

    async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let report = self.0.bridge.shutdown(grace).await;
        let member = Arc::clone(&self.0);
        tokio::spawn(async move { member.end_sidecar().await });
        report
    }
}
