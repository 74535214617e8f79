use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::BasicProperties;
use parking_lot::Mutex;
use purista_core::{
    ErrorKind, Message, Result,
    adapter::{Intake, Restore, async_trait},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    acks::Acks,
    attach::{Attached, attach},
    audit::{Audited, Found, look_at},
    connection::Connection,
    topology::{Plan, Route, Topology},
    transport::AmqpTransport,
};

/// How long a queue may be silent, as it is busy.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// How long it may be silent before its consumer counts as gone: who attaches anew gets again what is in hand.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// What the task of a consumer shares with what restores it and looks after it.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) connection: Arc<Connection>,
    pub(crate) plans: Vec<Plan>,
    pub(crate) intake: Intake<AmqpTransport>,
    /// What was attached anew, for the task to switch to.
    pub(crate) attached: Mutex<Option<Attached>>,
    pub(crate) is_attached: Notify,
    /// Tells the task to attach anew.
    pub(crate) is_broken: Notify,
    /// Tells the task that the last try was refused, and another one may help later.
    pub(crate) is_refused: Notify,
    /// The channel in use, and what it consumes.
    pub(crate) consuming: Mutex<Consuming>,
    is_stopping: AtomicBool,
    /// Since when the queue is silent.
    silent_since: Mutex<Option<Instant>>,
    /// Why the last try was refused; it is logged once.
    refused_for: Mutex<Option<ErrorKind>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Consuming {
    pub(crate) acks: Arc<Acks>,
    /// With the names that the queues have on this connection.
    pub(crate) plans: Arc<[Plan]>,
}

impl Registration {
    pub(crate) fn new(
        connection: Arc<Connection>,
        plans: Vec<Plan>,
        intake: Intake<AmqpTransport>,
        attached: &Attached,
    ) -> Self {
        Self {
            connection,
            plans,
            intake,
            attached: Mutex::default(),
            is_attached: Notify::new(),
            is_broken: Notify::new(),
            is_refused: Notify::new(),
            consuming: Mutex::new(Consuming::of(attached)),
            is_stopping: AtomicBool::new(false),
            silent_since: Mutex::default(),
            refused_for: Mutex::default(),
        }
    }

    /// Says that nothing more is consumed on purpose.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(crate) fn consuming(&self) -> Consuming {
        self.consuming.lock().clone()
    }

    /// Attaches anew. Returns whether the broker had forgotten what should have waited.
    pub(crate) async fn attach_anew(&self) -> Result<bool> {
        let session = self.connection.session();
        let attached = match attach(&session, &self.plans, true).await {
            Ok(attached) => attached,
            Err(error) => {
                let known = self.refused_for.lock().replace(error.kind());
                if known == Some(error.kind()) {
                    tracing::debug!(%error, "a registration is still suspended");
                } else {
                    tracing::error!(%error, "a registration is suspended, and tried again");
                }
                return Err(error);
            }
        };
        *self.refused_for.lock() = None;
        *self.silent_since.lock() = None;
        let was_forgotten = attached.was_forgotten;
        *self.attached.lock() = Some(attached);
        self.is_attached.notify_one();
        Ok(was_forgotten)
    }

    fn is_gone(&self, why: &str) {
        tracing::warn!(why, "a registration does not consume: it is restored");
        self.intake.consumer_down();
        self.is_broken.notify_one();
    }

    /// Says that nothing comes from the queue, if that is so for some time; if it lasts, the consumer is gone.
    fn is_silent(&self, why: &str) {
        let silent = self.silent_since.lock().get_or_insert_with(Instant::now).elapsed();
        if silent >= GONE_AFTER {
            self.is_gone(why);
        } else if silent >= DOWN_AFTER {
            // Each look comes by here: what is told once is the event.
            tracing::debug!(why, "a registration may not consume");
            self.intake.consumer_down();
        }
    }

    /// Returns where a command goes that is meant for another instance, if its queue does not tell instances apart.
    pub(crate) fn meant_for_another(&self, message: &Message) -> Option<Route> {
        let Topology::TypeScript(topology) = &self.connection.topology else { return None };
        let receiver = message.receiver.as_ref().filter(|_| self.plans.len() > 1)?;
        let instance_id = receiver.instance_id.as_ref()?;
        if instance_id == self.connection.link().instance_id() {
            return None;
        }
        let (exchange, routing_key) = topology.to_instance(&receiver.address, instance_id);
        Some(Route { exchange, routing_key, properties: BasicProperties::default() })
    }
}

#[async_trait]
impl Restore for Registration {
    async fn restore(&self) -> Result<bool> {
        match self.attach_anew().await {
            // The others are restored all the same. This one is down until the broker allows it again; with another
            // filter, what comes now is meant for others: to take and drop it would lose it.
            Err(error) if !error.kind().is_temporary() => {
                self.intake.consumer_down();
                self.is_refused.notify_one();
                Ok(false)
            }
            attached => attached,
        }
    }
}

#[async_trait]
impl Audited for Registration {
    async fn look(&self) -> Found {
        let Consuming { acks, plans } = self.consuming();
        if !acks.is_usable() || self.is_stopping.load(Ordering::Acquire) {
            return Found::Unknown;
        }
        let found = look_at(acks.channel(), &plans).await;
        if !acks.is_usable() || self.is_stopping.load(Ordering::Acquire) {
            return found;
        }
        match &found {
            Found::Broken(why) => self.is_gone(why),
            Found::Silent(why) => self.is_silent(why),
            Found::Whole => {
                if self.silent_since.lock().take().is_some() {
                    self.intake.consumer_up();
                }
            }
            Found::NoExchange | Found::Unknown => {}
        }
        found
    }
}

impl Consuming {
    pub(crate) fn of(attached: &Attached) -> Self {
        Self { acks: Acks::new(attached.channel.clone()), plans: Arc::clone(&attached.plans) }
    }
}
