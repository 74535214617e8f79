use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Consumer, Engine, Gate, Stop, Transport, leases::Leases, link::Shared, waiting_room::WaitingRoom,
};
use crate::{
    capability::Capabilities,
    durations::Attempts,
    error::Result,
    grant::{Granted, grant_command, grant_subscription},
    handler::{CommandHandler, SubscriptionHandler},
    message::ServiceAddress,
    options::{Command, Subscription},
};

/// A command or subscription with its handler.
pub(super) enum Endpoint {
    Command(Command, Arc<dyn CommandHandler>),
    Subscription(Box<Subscription>, Arc<dyn SubscriptionHandler>),
}

/// What tells registrations of one bridge apart.
pub(super) type Key = (EndpointKind, ServiceAddress);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum EndpointKind {
    Command,
    Subscription,
}

impl Endpoint {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Command(command, _) => (EndpointKind::Command, command.address.clone()),
            Self::Subscription(subscription, _) => {
                (EndpointKind::Subscription, subscription.subscriber.clone())
            }
        }
    }

    pub(super) fn grant(&self, given: &Capabilities) -> Result<Granted> {
        match self {
            Self::Command(command, _) => grant_command(&command.options, given),
            Self::Subscription(subscription, _) => grant_subscription(&subscription.options, given),
        }
    }
}

/// A registration of an engine.
pub(super) struct Registered<T: Transport> {
    pub(super) endpoint: Endpoint,
    pub(super) address: Arc<ServiceAddress>,
    granted: RwLock<Granted>,
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Weak<Engine<T>>,
    /// One permit for each handler that may run.
    pub(super) handlers: Arc<Semaphore>,
    /// Where messages wait for their next attempt without a handler's place.
    pub(super) waiting_room: WaitingRoom,
    /// All deliveries that are being handled or wait for their next attempt.
    pub(super) in_hand: Arc<Gate>,
    /// Those of them whose handler did not start yet.
    pub(super) starting: Arc<Gate>,
    /// Cancelled when no handler starts any more.
    pub(super) stopping: CancellationToken,
    /// Those of what is in hand.
    pub(super) leases: Arc<Leases>,
    /// How long its handler takes.
    pub(super) attempts: Attempts,
    consumer: Mutex<Option<Arc<T::Consumer>>>,
}

impl<T: Transport> Registered<T> {
    pub(super) fn new(
        endpoint: Endpoint,
        given: &Capabilities,
        shared: Arc<Shared>,
        engine: Weak<Engine<T>>,
    ) -> Result<Self> {
        let granted = endpoint.grant(given)?;
        Ok(Self {
            address: Arc::new(endpoint.key().1),
            endpoint,
            granted: RwLock::new(granted),
            shared,
            engine,
            handlers: Arc::new(Semaphore::new(granted.max_concurrency)),
            waiting_room: WaitingRoom::new(),
            in_hand: Gate::new(),
            starting: Gate::new(),
            stopping: CancellationToken::new(),
            leases: Arc::default(),
            attempts: Attempts::new(),
            consumer: Mutex::new(None),
        })
    }

    pub(super) fn granted(&self) -> Granted {
        *self.granted.read()
    }

    /// Grants anew what the live broker gives: all that was asked for, or it fails; for the rest the best there is.
    pub(super) fn grant_again(&self, given: &Capabilities) -> Result<()> {
        *self.granted.write() = self.endpoint.grant(given)?;
        Ok(())
    }

    fn consumer(&self) -> Option<Arc<T::Consumer>> {
        self.consumer.lock().clone()
    }

    pub(super) fn take_consumer(&self) -> Option<Arc<T::Consumer>> {
        self.consumer.lock().take()
    }

    /// Keeps the consumer that was opened.
    pub(super) fn opened(&self, consumer: T::Consumer) {
        *self.consumer.lock() = Some(Arc::new(consumer));
    }

    /// Takes no more deliveries. Those that it has taken have started when this returns.
    pub(super) async fn stop(&self, why: Stop) {
        if let Some(consumer) = self.consumer() {
            consumer.stop(why).await;
        }
        self.starting.empty().await;
        self.halt();
    }

    /// Starts no handler any more, and gives attempts that wait back.
    pub(super) fn halt(&self) {
        self.stopping.cancel();
        self.in_hand.close();
        self.handlers.close();
        self.leases.close();
    }

    /// Ends the consumer after its last acknowledgement.
    pub(super) async fn close(&self) -> Result<()> {
        self.shared.consumer_up(&self.endpoint.key());
        match self.take_consumer() {
            Some(consumer) => consumer.close().await,
            None => Ok(()),
        }
    }
}

impl<T: Transport> std::fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("address", &self.address)
            .field("granted", &self.granted())
            .finish()
    }
}
