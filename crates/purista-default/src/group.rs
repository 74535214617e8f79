use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use futures_util::future::select_all;
use parking_lot::Mutex;
use purista_core::{
    Error, ErrorKind, Id, Message, Result,
    adapter::{Acknowledgement, Delivery, Intake, Link, Slot, async_trait},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout_at},
};

use crate::transport::InProcess;

/// The instances of one command or subscriber, and the messages that wait for one of them.
///
/// A message goes straight to a member that has a free slot, round robin. If none has, it waits in a bounded backlog
/// that keeps the order.
#[derive(Debug)]
pub(crate) struct Group {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// Told when members come and go, and when the backlog becomes empty.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Member>,
    backlog: VecDeque<Item>,
    next_member: usize,
    is_pumped: bool,
    /// The last member is leaving: the backlog gets no longer.
    is_closing: bool,
}

#[derive(Clone, Debug)]
struct Member {
    instance_id: Id,
    intake: Intake<InProcess>,
}

/// A message on its way to one member.
#[derive(Debug)]
pub(crate) struct Item {
    message: Arc<Message>,
    caller: Option<(Link, Instant)>,
    /// How often it was a dead letter that was sent again.
    redrives: u32,
    /// Its place in the backlog.
    place: Option<OwnedSemaphorePermit>,
}

/// Why a group does not take a message at once.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// There is no member any more.
    Gone,
    /// The backlog has no room.
    Full(Item),
}

impl Item {
    pub(crate) const fn event(message: Arc<Message>) -> Self {
        Self { message, caller: None, redrives: 0, place: None }
    }

    pub(crate) const fn command(message: Arc<Message>, caller: Link, deadline: Instant) -> Self {
        Self { message, caller: Some((caller, deadline)), redrives: 0, place: None }
    }

    pub(crate) const fn with_redrives(mut self, redrives: u32) -> Self {
        self.redrives = redrives;
        self
    }

    fn into_delivery(self, group: &Arc<Group>) -> Delivery<Link> {
        let Self { message, caller, redrives, .. } = self;
        match caller {
            Some((caller, deadline)) => Delivery::new(message).with_reply_to(caller, Some(deadline)),
            None => {
                let taken = Taken { message: Arc::clone(&message), redrives, group: Arc::downgrade(group) };
                Delivery::new(message).with_redrives(redrives).with_acknowledgement(Box::new(taken))
            }
        }
    }
}

impl Group {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(capacity.min(Semaphore::MAX_PERMITS))),
            changed: Notify::new(),
        })
    }

    pub(crate) fn join(&self, instance_id: Id, intake: Intake<InProcess>) {
        self.state.lock().members.push(Member { instance_id, intake });
        self.changed.notify_waiters();
    }

    /// Takes a member out, and leaves the backlog to the others. The last one has to
    /// [`finish`](Self::finish) instead: returns whether it is.
    pub(crate) fn leave(&self, instance_id: &Id) -> bool {
        let mut state = self.state.lock();
        let is_last = state.members.iter().all(|member| member.instance_id == *instance_id);
        if is_last {
            state.is_closing = true;
        } else {
            state.members.retain(|member| member.instance_id != *instance_id);
        }
        drop(state);
        self.changed.notify_waiters();
        is_last
    }

    /// Waits until the last member has taken all of the backlog.
    pub(crate) async fn finish(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.backlog.is_empty() {
                    state.members.clear();
                    return;
                }
            }
            changed.await;
        }
    }

    /// Takes out a member that takes no more work; if it was the last one, gives the backlog up.
    pub(crate) fn expel(&self, expelled: &Id) {
        let given_up = {
            let mut state = self.state.lock();
            let Some(position) = state.members.iter().position(|member| member.instance_id == *expelled)
            else {
                return;
            };
            let member = state.members.swap_remove(position);
            let given_up =
                if state.members.is_empty() { std::mem::take(&mut state.backlog) } else { VecDeque::new() };
            member.intake.abandoned(given_up.len());
            given_up
        };
        self.changed.notify_waiters();
        for Item { message, caller, .. } in given_up {
            if let Some((caller, _)) = caller {
                caller.respond(Arc::new(message.unavailable(expelled)));
            }
        }
    }

    pub(crate) fn backlog_len(&self) -> usize {
        self.state.lock().backlog.len()
    }

    /// Hands a message to a free member or puts it into the backlog.
    pub(crate) fn try_offer(self: &Arc<Self>, mut item: Item) -> Result<(), Rejected> {
        let mut state = self.state.lock();
        if !state.is_open() {
            return Err(Rejected::Gone);
        }
        if state.backlog.is_empty()
            && let Some((intake, slot)) = state.free_member()
        {
            drop(state);
            intake.deliver(slot, item.into_delivery(self));
            return Ok(());
        }
        match Arc::clone(&self.room).try_acquire_owned() {
            Ok(place) => item.place = Some(place),
            Err(TryAcquireError::NoPermits) => return Err(Rejected::Full(item)),
            Err(TryAcquireError::Closed) => return Err(Rejected::Gone),
        }
        state.backlog.push_back(item);
        self.pump(&mut state);
        Ok(())
    }

    /// Waits for room and puts a message into the backlog; `false` if the group is gone and needs it no more.
    pub(crate) async fn offer(self: &Arc<Self>, mut item: Item, deadline: Instant) -> Result<bool> {
        match timeout_at(deadline, Arc::clone(&self.room).acquire_owned()).await {
            Err(_) => {
                return Err(
                    Error::new(ErrorKind::Backpressure, "emit").with_context("a subscriber's queue is full")
                );
            }
            Ok(Err(_)) => return Ok(false),
            Ok(Ok(place)) => item.place = Some(place),
        }
        let mut state = self.state.lock();
        if !state.is_open() {
            return Ok(false);
        }
        state.backlog.push_back(item);
        self.pump(&mut state);
        Ok(true)
    }

    /// Hands a message to one certain member as soon as it has a free slot; `false` if it is not there.
    pub(crate) async fn offer_to(self: &Arc<Self>, instance_id: &Id, item: Item) -> bool {
        let intake = {
            let state = self.state.lock();
            let member = state.members.iter().find(|member| member.instance_id == *instance_id);
            member.map(|member| member.intake.clone())
        };
        let Some(intake) = intake else { return false };
        let Some(slot) = intake.slot().await else { return false };
        intake.deliver(slot, item.into_delivery(self));
        true
    }

    /// Puts a message that a member did not finish back where it was.
    fn put_back(self: &Arc<Self>, item: Item) {
        let mut state = self.state.lock();
        if !state.members.is_empty() {
            state.backlog.push_front(item);
            self.pump(&mut state);
        }
    }

    fn pump(self: &Arc<Self>, state: &mut State) {
        if state.is_pumped {
            return;
        }
        // On the runtime of a member: that of who sends may end before the message is delivered.
        if let Some(member) = state.members.iter().find(|member| member.intake.is_live()) {
            let pump = member.intake.spawn(Arc::clone(self).pump_until_empty());
            // It is, if that runtime has just gone.
            state.is_pumped = !pump.is_finished();
        }
    }

    async fn pump_until_empty(self: Arc<Self>) {
        let mut pumping = Pumping { group: Arc::clone(&self), is_interrupted: true };
        self.empty_backlog().await;
        pumping.is_interrupted = false;
    }

    async fn empty_backlog(self: Arc<Self>) {
        while let Some((intake, slot)) = self.slot().await {
            let item = {
                let mut state = self.state.lock();
                let Some(item) = state.backlog.pop_front() else {
                    state.is_pumped = false;
                    drop(state);
                    self.changed.notify_waiters();
                    return;
                };
                item
            };
            intake.deliver(slot, item.into_delivery(&self));
        }
    }

    /// Waits until a member has a free slot; `None` when there are no members any more.
    async fn slot(&self) -> Option<(Intake<InProcess>, Slot)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waiting: Vec<_> = {
                let mut state = self.state.lock();
                if let Some(found) = state.free_member() {
                    return Some(found);
                }
                if state.members.is_empty() {
                    state.is_pumped = false;
                    return None;
                }
                let members = state.members.iter().cloned();
                members.map(|member| Box::pin(async move { (member.intake.slot().await, member) })).collect()
            };
            tokio::select! {
                ((slot, member), ..) = select_all(waiting) => match slot {
                    Some(slot) => return Some((member.intake, slot)),
                    None => self.expel(&member.instance_id),
                },
                () = changed => {}
            }
        }
    }
}

/// Notes it when the runtime goes on which the backlog is emptied: the next message finds a member on another one.
struct Pumping {
    group: Arc<Group>,
    is_interrupted: bool,
}

impl Drop for Pumping {
    fn drop(&mut self) {
        if self.is_interrupted {
            self.group.state.lock().is_pumped = false;
        }
    }
}

impl State {
    fn is_open(&self) -> bool {
        !self.is_closing && !self.members.is_empty()
    }

    /// Finds the next member that has a free slot.
    fn free_member(&mut self) -> Option<(Intake<InProcess>, Slot)> {
        let members = self.members.len();
        for step in 0..members {
            let position = (self.next_member + step) % members;
            let member = &self.members[position];
            match member.intake.try_slot() {
                Ok(slot) => {
                    self.next_member = position + 1;
                    return Some((member.intake.clone(), slot));
                }
                Err(_busy) => {}
            }
        }
        None
    }
}

/// A message that a member has taken and not finished.
#[derive(Debug)]
struct Taken {
    message: Arc<Message>,
    redrives: u32,
    group: Weak<Group>,
}

#[async_trait]
impl Acknowledgement for Taken {
    async fn accept(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn release(self: Box<Self>, _failed_attempts: u32) -> Result<()> {
        if let Some(group) = self.group.upgrade() {
            group.put_back(Item::event(self.message).with_redrives(self.redrives));
        }
        Ok(())
    }
}
