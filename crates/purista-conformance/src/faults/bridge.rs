//! The bridge that is wrong.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use purista_core::{
    Acknowledge, BridgeEvents, BridgeState, Capabilities, Capability, Command, CommandDraft, CommandHandler,
    DeadLetters, EmitOptions, EventBridge, EventDraft, Granted, Health, Id, InvokeError, InvokeOptions,
    Message, Registration, RegistrationControl, Result, ServiceAddress, ShutdownReport, Stats, Subscription,
    SubscriptionHandler,
};
use tokio::{sync::Semaphore, time::Instant};

use super::{
    Fault,
    calls::Calls,
    emits::Emits,
    handlers::{WrongCommand, WrongSubscription},
    letters::WrongLetters,
    outage::Outage,
    spoil,
};

/// A right bridge, used wrongly.
#[derive(Debug)]
pub(super) struct WrongBridge {
    inner: Arc<dyn EventBridge>,
    fault: Fault,
    emits: Emits,
    calls: Calls,
    registrations: Mutex<HashMap<ServiceAddress, Registration>>,
    outage: Arc<Outage>,
    /// One permit for each handler that may run.
    turn: Arc<Semaphore>,
}

impl WrongBridge {
    pub(super) fn new(inner: Arc<dyn EventBridge>, fault: Fault) -> Self {
        let outage = Arc::new(Outage::new(fault));
        Self {
            emits: Emits::new(fault, Arc::clone(&inner), Arc::clone(&outage)),
            calls: Calls::new(fault, Arc::clone(&inner)),
            inner,
            fault,
            registrations: Mutex::default(),
            outage,
            turn: Arc::new(Semaphore::new(match fault {
                Fault::RunsHandlersInTurn => 1,
                _ => Semaphore::MAX_PERMITS,
            })),
        }
    }

    fn wrong_registration(&self, registration: Registration) -> Registration {
        if self.fault != Fault::IgnoresUnregister {
            return registration;
        }
        Registration::new(registration.address().clone(), Arc::new(IgnoredUnregister(registration)))
    }
}

#[async_trait]
impl EventBridge for WrongBridge {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn instance_id(&self) -> &Id {
        self.inner.instance_id()
    }

    fn capabilities(&self) -> Capabilities {
        let given = self.inner.capabilities();
        match self.fault {
            Fault::ClaimsDurable => given.with(Capability::DurableSubscriptions),
            Fault::UnderstatesPayload => given.with_max_payload(given.max_payload() - 16),
            _ => given,
        }
    }

    async fn start(&self) -> Result<()> {
        if self.fault == Fault::LeaksTasks {
            tokio::spawn(std::future::pending::<()>());
        }
        self.outage.watch(self.inner.events());
        self.outage.start(&*self.inner).await?;
        if self.fault == Fault::AcceptsForgedResponses {
            self.calls.listen_to_all_responses().await?;
        }
        Ok(())
    }

    async fn emit_message(&self, draft: EventDraft, options: &EmitOptions) -> Result<Arc<Message>> {
        let draft = spoil::event(self.fault, draft, self.instance_id());
        self.emits.emit(draft, options).await
    }

    async fn invoke_command(
        &self,
        draft: CommandDraft,
        options: &InvokeOptions,
    ) -> Result<Arc<Message>, InvokeError> {
        self.calls.invoke(draft, options).await
    }

    async fn register_command(
        &self,
        mut command: Command,
        handler: Arc<dyn CommandHandler>,
    ) -> Result<Registration> {
        if self.fault == Fault::IgnoresConcurrency {
            let limit = &mut command.options.max_concurrency;
            *limit = limit.map(|limit| 2 * limit);
        }
        if self.fault == Fault::AcknowledgesCommandsTooEarly {
            command.options.acknowledge = Some(Acknowledge::OnReceive);
        }
        let known = self.registrations.lock().get(&command.address).cloned();
        if let (Fault::ReplacesRegistrations, Some(known)) = (self.fault, known) {
            return Ok(known);
        }
        let handler = Arc::new(WrongCommand { fault: self.fault, handler, turn: Arc::clone(&self.turn) });
        let registration = self.inner.register_command(command, handler).await?;
        self.registrations.lock().insert(registration.address().clone(), registration.clone());
        Ok(self.wrong_registration(registration))
    }

    async fn register_subscription(
        &self,
        subscription: Subscription,
        handler: Arc<dyn SubscriptionHandler>,
    ) -> Result<Registration> {
        let subscription = spoil::subscription(self.fault, subscription);
        let known = self.registrations.lock().get(&subscription.subscriber).cloned();
        if let (Fault::ReplacesRegistrations, Some(known)) = (self.fault, known) {
            return Ok(known);
        }
        let handler = Arc::new(WrongSubscription {
            fault: self.fault,
            handler,
            registered_at: Instant::now(),
            outage: Arc::clone(&self.outage),
            turn: Arc::clone(&self.turn),
            failures: Default::default(),
        });
        let registration = self.inner.register_subscription(subscription, handler).await?;
        self.registrations.lock().insert(registration.address().clone(), registration.clone());
        Ok(self.wrong_registration(registration))
    }

    fn health(&self) -> Health {
        let health = self.inner.health();
        match (self.fault, health.state) {
            (Fault::ReadyTooEarly, BridgeState::Created) => {
                Health::new(BridgeState::Started, true, Vec::new())
            }
            (Fault::HidesLostRuntimes, BridgeState::ShutDown) => {
                Health::new(BridgeState::Started, true, Vec::new())
            }
            (Fault::HidesSilence, state) => Health::new(state, true, health.not_consuming),
            (Fault::HidesDeadConsumers | Fault::HidesStoppages, state) => {
                Health::new(state, health.connected, Vec::new())
            }
            _ => health,
        }
    }

    fn events(&self) -> BridgeEvents {
        self.inner.events()
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        match self.fault {
            Fault::HidesMalformed => stats.malformed = 0,
            Fault::HidesStreams => stats.stream_frames = 0,
            Fault::LeaksCalls => stats.pending_calls = self.calls.forgotten(),
            _ => {}
        }
        stats
    }

    fn dead_letters(&self) -> Result<Arc<dyn DeadLetters>> {
        let (inner, bridge) = (self.inner.dead_letters()?, Arc::clone(&self.inner));
        Ok(Arc::new(WrongLetters { fault: self.fault, inner, bridge }))
    }

    async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        match self.fault {
            Fault::ShutsDownAtOnce => {
                let mut report = self.inner.shutdown(Duration::ZERO).await;
                // On a busy machine, handlers may be quick enough to finish all the same.
                report.cancelled_handlers = report.cancelled_handlers.max(1);
                report
            }
            Fault::IgnoresShutdown => ShutdownReport::default(),
            _ => self.inner.shutdown(grace).await,
        }
    }
}

#[derive(Debug)]
struct IgnoredUnregister(Registration);

#[async_trait]
impl RegistrationControl for IgnoredUnregister {
    fn granted(&self) -> Granted {
        self.0.granted()
    }

    async fn unregister(&self) -> Result<()> {
        Ok(())
    }
}
