use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use purista_core::{
    Error, ErrorKind, InvokeOptions, Message, MessageType, Result, ServiceAddress,
    adapter::{DeadLetter, Link},
};
use smallvec::SmallVec;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    group::{Group, Item, Rejected},
    letters::Letters,
    routes::{Routes, SubscriberKey},
};

/// How long a subscriber that observes commands and responses may have no room before it misses one.
const OBSERVER_PATIENCE: Duration = Duration::from_secs(30);

/// How many commands and responses can wait for observers without slowing down who sends them.
const WAITING_FOR_OBSERVERS: usize = 1_024;

/// The bounds of a [`Hub`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HubConfig {
    /// How many messages can wait for one command or subscriber; 10,000 by default. Beyond, `emit` waits.
    pub queue_capacity: usize,
    /// How many dead letters are kept; 1,000 by default. Beyond, messages wait unacknowledged until there is room.
    pub dead_letter_capacity: usize,
    /// The largest payload and parameter together, in bytes; 16 MiB by default.
    pub max_payload: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self { queue_capacity: 10_000, dead_letter_capacity: 1_000, max_payload: 16 * 1024 * 1024 }
    }
}

impl HubConfig {
    /// Sets how many messages can wait for one command or subscriber.
    #[must_use]
    pub const fn with_queue_capacity(mut self, messages: usize) -> Self {
        self.queue_capacity = messages;
        self
    }

    /// Sets how many dead letters are kept.
    #[must_use]
    pub const fn with_dead_letter_capacity(mut self, letters: usize) -> Self {
        self.dead_letter_capacity = letters;
        self
    }

    /// Sets the largest payload and parameter together, in bytes.
    #[must_use]
    pub const fn with_max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }
}

impl HubConfig {
    /// Refuses limits of zero.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.queue_capacity == 0 || self.dead_letter_capacity == 0 || self.max_payload == 0 {
            return Err(
                Error::new(ErrorKind::InvalidConfig, "configure").with_context("a limit of the hub is zero")
            );
        }
        Ok(())
    }
}

/// What stands in for the broker: the bridges of one process that are attached to it form one deployment.
///
/// Cheap to clone; all clones are the same hub.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Inner>);

/// A hub as seen by those that are on it.
#[derive(Debug)]
pub(crate) struct WeakHub(Weak<Inner>);

impl WeakHub {
    pub(crate) fn upgrade(&self) -> Option<Hub> {
        self.0.upgrade().map(Hub)
    }
}

#[derive(Debug)]
struct Inner {
    config: HubConfig,
    routes: RwLock<Routes>,
    dead_letters: Mutex<Letters>,
    waiting_for_observers: Arc<Semaphore>,
}

impl Default for Inner {
    fn default() -> Self {
        Self::new(HubConfig::default())
    }
}

impl Inner {
    fn new(config: HubConfig) -> Self {
        Self {
            config,
            routes: RwLock::default(),
            dead_letters: Mutex::default(),
            waiting_for_observers: Arc::new(Semaphore::new(WAITING_FOR_OBSERVERS)),
        }
    }
}

/// What is on a hub at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubReport {
    /// Bridges that are attached.
    pub bridges: usize,
    /// Commands that are served.
    pub commands: usize,
    /// Subscribers; each instance of one with a broadcast subscription counts.
    pub subscribers: usize,
    /// Messages that wait for a free handler.
    pub queued: usize,
    /// Dead letters that are kept.
    pub dead_letters: usize,
}

impl Hub {
    /// Creates a hub.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        Self(Arc::new(Inner::new(config)))
    }

    /// Returns what is on the hub now.
    #[must_use]
    pub fn report(&self) -> HubReport {
        let routes = self.0.routes.read();
        let groups =
            routes.commands.values().chain(routes.subscribers.values().map(|subscriber| &subscriber.group));
        HubReport {
            bridges: routes.bridges.len(),
            commands: routes.commands.len(),
            subscribers: routes.subscribers.len(),
            queued: groups.map(|group| group.backlog_len()).sum(),
            dead_letters: self.0.dead_letters.lock().len(),
        }
    }

    /// Takes all dead letters out, oldest first.
    #[must_use]
    pub fn take_dead_letters(&self) -> Vec<DeadLetter> {
        self.0.dead_letters.lock().take()
    }

    /// Routes bytes as if a foreign peer had put them on the wire.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](ErrorKind::InvalidMessage) if they are no message, which every attached bridge counts;
    /// [`Backpressure`](ErrorKind::Backpressure) and [`NoHandler`](ErrorKind::NoHandler) as for a message of a bridge.
    pub async fn inject(&self, bytes: impl Into<Bytes> + Send) -> Result<()> {
        let message = Arc::new(self.decode(bytes)?);
        let deadline = Instant::now() + InvokeOptions::default().timeout;
        match message.message_type() {
            MessageType::Command => {
                match self.link_of(&message) {
                    Some(caller) => self.request(message, caller, deadline).await,
                    None => Err(Error::new(ErrorKind::Unroutable, "inject")
                        .with_context("the sender is not attached")),
                }
            }
            MessageType::CommandSuccessResponse | MessageType::CommandErrorResponse => {
                if let Some(caller) = self.link_of_receiver(&message) {
                    caller.respond(Arc::clone(&message));
                }
                self.observe(message).await;
                Ok(())
            }
            _ => self.publish(message, deadline, false).await,
        }
    }

    /// Delivers bytes to one subscriber or command, whatever its filter or address: what a broker does that routes
    /// wrongly. Returns whether there is such a subscriber or command.
    ///
    /// # Errors
    ///
    /// As [`inject`](Self::inject).
    pub async fn misroute(&self, to: &ServiceAddress, bytes: impl Into<Bytes> + Send) -> Result<bool> {
        let message = Arc::new(self.decode(bytes)?);
        let deadline = Instant::now() + InvokeOptions::default().timeout;
        let (subscribers, command) = {
            let routes = self.0.routes.read();
            let subscribers = routes.subscribers.iter().filter(|(key, _)| key.address == *to);
            let groups: Vec<_> = subscribers.map(|(_, subscriber)| Arc::clone(&subscriber.group)).collect();
            (groups, routes.commands.get(to).cloned())
        };
        let found = command.is_some() || !subscribers.is_empty();
        if let (Some(command), Some(caller)) = (command, self.link_of(&message)) {
            let item = Item::command(Arc::clone(&message), caller, deadline);
            offer(&command, item, deadline).await?;
        }
        for group in subscribers {
            offer(&group, Item::event(Arc::clone(&message)), deadline).await?;
        }
        Ok(found)
    }

    fn decode(&self, bytes: impl Into<Bytes>) -> Result<Message> {
        Message::decode(bytes).inspect_err(|error| {
            let bridges: Vec<Link> = self.0.routes.read().bridges.values().cloned().collect();
            bridges.iter().for_each(|bridge| bridge.malformed(error));
        })
    }

    fn link_of(&self, message: &Message) -> Option<Link> {
        self.0.routes.read().bridges.get(&message.sender.instance_id).cloned()
    }

    fn link_of_receiver(&self, message: &Message) -> Option<Link> {
        let instance_id = message.receiver.as_ref()?.instance_id.as_ref()?;
        self.0.routes.read().bridges.get(instance_id).cloned()
    }

    pub(crate) fn downgrade(&self) -> WeakHub {
        WeakHub(Arc::downgrade(&self.0))
    }

    pub(crate) fn letters(&self) -> &Mutex<Letters> {
        &self.0.dead_letters
    }

    pub(crate) fn config(&self) -> &HubConfig {
        &self.0.config
    }

    pub(crate) fn routes(&self) -> &RwLock<Routes> {
        &self.0.routes
    }

    /// Gives a message to all subscribers that match; returns when all have it.
    pub(crate) async fn publish(
        &self,
        message: Arc<Message>,
        deadline: Instant,
        must_route: bool,
    ) -> Result<()> {
        let groups = self.0.routes.read().matching(&message);
        let (mut taken, full) = offer_now(groups, &message);
        for (group, item) in full {
            taken |= group.offer(item, deadline).await?;
        }
        if must_route && !taken {
            return Err(Error::new(ErrorKind::Unroutable, "emit"));
        }
        Ok(())
    }

    /// Gives a command to one instance, and to the subscribers that match.
    pub(crate) async fn request(&self, command: Arc<Message>, caller: Link, deadline: Instant) -> Result<()> {
        let no_handler = || Error::new(ErrorKind::NoHandler, "invoke");
        let receiver = command.receiver.as_ref().ok_or_else(no_handler)?;
        let (group, observers) = {
            let routes = self.0.routes.read();
            let group = routes.commands.get(&receiver.address).cloned().ok_or_else(no_handler)?;
            (group, routes.matching(&command))
        };
        self.give_to_observers(observers, &command).await;
        let item = Item::command(Arc::clone(&command), caller, deadline);
        let taken = match &receiver.instance_id {
            Some(instance_id) => group.offer_to(instance_id, item).await,
            None => offer(&group, item, deadline).await?,
        };
        if taken { Ok(()) } else { Err(no_handler()) }
    }

    /// Gives a command or response to the subscribers that match.
    pub(crate) async fn observe(&self, message: Arc<Message>) {
        let observers = self.0.routes.read().matching(&message);
        self.give_to_observers(observers, &message).await;
    }

    /// Gives a command or response to subscribers. Those without room get it later, as it must not wait for them.
    async fn give_to_observers(&self, observers: SmallVec<[Arc<Group>; 4]>, message: &Arc<Message>) {
        let (_, full) = offer_now(observers, message);
        if full.is_empty() {
            return;
        }
        let message = Arc::clone(message);
        let Ok(waiting) = Arc::clone(&self.0.waiting_for_observers).acquire_owned().await else { return };
        tokio::spawn(async move {
            let deadline = Instant::now() + OBSERVER_PATIENCE;
            for (group, item) in full {
                if let Err(error) = group.offer(item, deadline).await {
                    tracing::error!(%error, message_id = %message.id, "a subscriber misses a command or response");
                }
            }
            drop(waiting);
        });
    }

    pub(crate) fn keep_dead_letter(&self, letter: DeadLetter) -> Result<()> {
        let mut letters = self.0.dead_letters.lock();
        if letters.len() >= self.0.config.dead_letter_capacity {
            return Err(
                Error::new(ErrorKind::Backpressure, "dead letter").with_context("no room for dead letters")
            );
        }
        letters.push(letter);
        Ok(())
    }

    /// Gives the message of a dead letter to its subscriber alone.
    pub(crate) async fn redeliver(&self, letter: DeadLetter, deadline: Instant) -> Result<()> {
        let message = Arc::new(Message::decode(letter.original)?);
        let key = SubscriberKey { address: letter.subscriber, instance_id: letter.instance_id };
        let subscriber = {
            let routes = self.0.routes.read();
            routes.subscribers.get(&key).map(|subscriber| Arc::clone(&subscriber.group))
        };
        let item = Item::event(message).with_redrives(letter.redrives);
        match subscriber {
            Some(group) if offer(&group, item, deadline).await? => Ok(()),
            _ => Err(Error::new(ErrorKind::Unroutable, "redrive")
                .with_context(format!("{} is not there", key.address))),
        }
    }
}

/// Gives a message to all groups that have room. Returns whether one took it, and those that have no room.
fn offer_now(
    groups: impl IntoIterator<Item = Arc<Group>>,
    message: &Arc<Message>,
) -> (bool, Vec<(Arc<Group>, Item)>) {
    let (mut taken, mut full) = (false, Vec::new());
    for group in groups {
        match group.try_offer(Item::event(Arc::clone(message))) {
            Ok(()) => taken = true,
            Err(Rejected::Gone) => {}
            Err(Rejected::Full(item)) => full.push((group, item)),
        }
    }
    (taken, full)
}

/// Gives a message to a group; `false` if it is gone.
async fn offer(group: &Arc<Group>, item: Item, deadline: Instant) -> Result<bool> {
    match group.try_offer(item) {
        Ok(()) => Ok(true),
        Err(Rejected::Gone) => Ok(false),
        Err(Rejected::Full(item)) => group.offer(item, deadline).await,
    }
}
