use std::sync::Arc;

use hashbrown::{HashMap, hash_map::Entry};
use purista_core::{
    Error, ErrorKind, Filter, FilterIndex, Id, Message, Result, ServiceAddress,
    adapter::{Intake, Link},
};
use smallvec::SmallVec;

use crate::{group::Group, transport::InProcess};

/// Who is there to get messages.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) bridges: HashMap<Id, Link>,
    pub(crate) commands: HashMap<ServiceAddress, Arc<Group>>,
    pub(crate) subscribers: HashMap<SubscriberKey, Subscriber>,
    index: FilterIndex<Arc<Group>>,
}

/// A subscriber; for a broadcast subscription, one instance of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubscriberKey {
    pub(crate) address: ServiceAddress,
    pub(crate) instance_id: Option<Id>,
}

#[derive(Debug)]
pub(crate) struct Subscriber {
    filter: Filter,
    pub(crate) group: Arc<Group>,
}

impl Routes {
    pub(crate) fn join_command(
        &mut self,
        address: ServiceAddress,
        instance_id: Id,
        intake: Intake<InProcess>,
        capacity: usize,
    ) {
        self.commands.entry(address).or_insert_with(|| Group::new(capacity)).join(instance_id, intake);
    }

    /// Takes an instance out; returns the group if it was the last one, which has to finish the backlog.
    pub(crate) fn leave_command(&mut self, address: &ServiceAddress, instance_id: &Id) -> Option<Arc<Group>> {
        let is_last = self.commands.get(address)?.leave(instance_id);
        if is_last { self.commands.remove(address) } else { None }
    }

    pub(crate) fn join_subscriber(
        &mut self,
        key: SubscriberKey,
        filter: &Filter,
        instance_id: Id,
        intake: Intake<InProcess>,
        capacity: usize,
    ) -> Result<()> {
        let subscriber = match self.subscribers.entry(key) {
            Entry::Occupied(known) if known.get().filter != *filter => {
                return Err(Error::new(ErrorKind::TopologyMismatch, "register")
                    .with_context("another instance of the subscriber has another filter"));
            }
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let group = Group::new(capacity);
                self.index.insert(filter.clone(), Arc::clone(&group));
                vacant.insert(Subscriber { filter: filter.clone(), group })
            }
        };
        subscriber.group.join(instance_id, intake);
        Ok(())
    }

    /// As [`leave_command`](Self::leave_command).
    pub(crate) fn leave_subscriber(&mut self, key: &SubscriberKey, instance_id: &Id) -> Option<Arc<Group>> {
        if !self.subscribers.get(key)?.group.leave(instance_id) {
            return None;
        }
        let Subscriber { filter, group } = self.subscribers.remove(key)?;
        self.index.remove(&filter, |known| Arc::ptr_eq(known, &group));
        Some(group)
    }

    /// Takes a bridge out of everything.
    pub(crate) fn expel(&mut self, instance_id: &Id) {
        self.bridges.remove(instance_id);
        let commands: Vec<_> = self.commands.keys().cloned().collect();
        let subscribers: Vec<_> = self.subscribers.keys().cloned().collect();
        let commands = commands.iter().filter_map(|address| self.leave_command(address, instance_id));
        let mut left_alone: Vec<_> = commands.collect();
        left_alone.extend(subscribers.iter().filter_map(|key| self.leave_subscriber(key, instance_id)));
        left_alone.iter().for_each(|group| group.expel(instance_id));
    }

    /// Returns the subscribers whose filter matches.
    pub(crate) fn matching(&self, message: &Message) -> SmallVec<[Arc<Group>; 4]> {
        let mut groups = SmallVec::new();
        self.index.for_each_match(message, |group| groups.push(Arc::clone(group)));
        groups
    }
}
