use std::{fmt, hash::BuildHasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{Filter, PartyFilter};
use crate::message::{Id, Message, MessageType, Name, ServiceAddress};

const FIELDS: usize = 12;

/// Finds the filters that match a message without looking at those that do not.
///
/// Filters with the same set of fields share a hash table, keyed by the values of these fields. A look-up probes
/// each table once, so that its cost grows with the number of different field sets in use (a handful), not with the
/// number of filters. It does not allocate.
///
/// ```
/// # use purista_core::{EventDraft, Filter, FilterIndex, Id};
/// let mut index = FilterIndex::default();
/// index.insert(Filter::event("userRegistered"), "welcome mail");
/// index.insert(Filter::event("userDeleted"), "good-bye mail");
///
/// let message = EventDraft::event(("User", "1", "signUp"), "userRegistered").stamp(&Id::random());
/// let mut found = Vec::new();
/// index.for_each_match(&message, |value| found.push(*value));
/// assert_eq!(found, ["welcome mail"]);
/// ```
pub struct FilterIndex<T> {
    shapes: Vec<Shape<T>>,
    hasher: RandomState,
    len: usize,
}

/// All filters that set the same fields.
struct Shape<T> {
    fields: FieldSet,
    buckets: HashTable<Bucket<T>>,
}

/// All filters whose values have the same hash: with few exceptions, the same values.
struct Bucket<T> {
    hash: u64,
    entries: Vec<(Filter, T)>,
}

/// One bit for each field of a filter or message that has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FieldSet(u16);

impl FieldSet {
    const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        (0..FIELDS).filter(move |field| self.0 & (1 << field) != 0)
    }
}

/// The values that a filter or a message has for the fields of a filter.
struct Values<'a> {
    message_type: Option<MessageType>,
    names: [Option<&'a Name>; 9],
    ids: [Option<&'a Id>; 2],
}

impl<'a> Values<'a> {
    fn of_filter(filter: &'a Filter) -> Self {
        let PartyFilter { service_name, service_version, service_target, instance_id } = &filter.sender;
        let receiver = &filter.receiver;
        Self {
            message_type: filter.message_type,
            names: [
                filter.event_name.as_ref(),
                filter.principal_id.as_ref(),
                filter.tenant_id.as_ref(),
                service_name.as_ref(),
                service_version.as_ref(),
                service_target.as_ref(),
                receiver.service_name.as_ref(),
                receiver.service_version.as_ref(),
                receiver.service_target.as_ref(),
            ],
            ids: [instance_id.as_ref(), receiver.instance_id.as_ref()],
        }
    }

    fn of_message(message: &'a Message) -> Self {
        let ServiceAddress { service_name, service_version, service_target } = &message.sender.address;
        let receiver = message.receiver.as_ref();
        let address = receiver.map(|receiver| &receiver.address);
        Self {
            message_type: Some(message.message_type()),
            names: [
                message.event_name.as_ref(),
                message.principal_id.as_ref(),
                message.tenant_id.as_ref(),
                Some(service_name),
                Some(service_version),
                Some(service_target),
                address.map(|address| &address.service_name),
                address.map(|address| &address.service_version),
                address.map(|address| &address.service_target),
            ],
            ids: [
                Some(&message.sender.instance_id),
                receiver.and_then(|receiver| receiver.instance_id.as_ref()),
            ],
        }
    }

    fn fields(&self) -> FieldSet {
        let present = [self.message_type.is_some()]
            .into_iter()
            .chain(self.names.iter().map(Option::is_some))
            .chain(self.ids.iter().map(Option::is_some));
        FieldSet(present.enumerate().fold(0, |set, (field, present)| set | u16::from(present) << field))
    }

    fn hash(&self, hasher: &RandomState, field: usize) -> u64 {
        match field {
            0 => hasher.hash_one(self.message_type),
            1..=9 => hasher.hash_one(self.names[field - 1]),
            _ => hasher.hash_one(self.ids[field - 10]),
        }
    }
}

fn combine(hashes: impl Iterator<Item = u64>) -> u64 {
    hashes.fold(0, |combined: u64, hash| (combined.rotate_left(7) ^ hash).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl<T> Default for FilterIndex<T> {
    fn default() -> Self {
        Self { shapes: Vec::new(), hasher: RandomState::default(), len: 0 }
    }
}

impl<T> FilterIndex<T> {
    /// Returns the number of filters.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no filter.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a filter and what it stands for. The same filter may be there more than once.
    pub fn insert(&mut self, filter: Filter, value: T) {
        let (fields, hash) = self.key(&filter);
        let position = self.shapes.iter().position(|shape| shape.fields == fields).unwrap_or_else(|| {
            self.shapes.push(Shape { fields, buckets: HashTable::new() });
            self.shapes.len() - 1
        });
        self.shapes[position]
            .buckets
            .entry(hash, |bucket| bucket.hash == hash, |bucket| bucket.hash)
            .or_insert_with(|| Bucket { hash, entries: Vec::new() })
            .get_mut()
            .entries
            .push((filter, value));
        self.len += 1;
    }

    /// Removes what `is_it` accepts among the values of this filter, and returns the first of them.
    pub fn remove(&mut self, filter: &Filter, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let (fields, hash) = self.key(filter);
        let position = self.shapes.iter().position(|shape| shape.fields == fields)?;
        let buckets = &mut self.shapes[position].buckets;
        let mut bucket = buckets.find_entry(hash, |bucket| bucket.hash == hash).ok()?;
        let entries = &mut bucket.get_mut().entries;
        let entry = entries.iter().position(|(known, value)| known == filter && is_it(value))?;
        let (_, value) = entries.swap_remove(entry);
        if entries.is_empty() {
            bucket.remove();
        }
        if buckets.is_empty() {
            self.shapes.swap_remove(position);
        }
        self.len -= 1;
        Some(value)
    }

    /// Calls `found` with the value of each filter that matches the message, in no particular order.
    pub fn for_each_match<'a>(&'a self, message: &Message, mut found: impl FnMut(&'a T)) {
        if self.shapes.is_empty() {
            return;
        }
        let values = Values::of_message(message);
        let present = values.fields();
        let mut hashes = [None; FIELDS];
        for shape in self.shapes.iter().filter(|shape| present.contains_all(shape.fields)) {
            let hash = combine(
                shape
                    .fields
                    .iter()
                    .map(|field| *hashes[field].get_or_insert_with(|| values.hash(&self.hasher, field))),
            );
            if let Some(bucket) = shape.buckets.find(hash, |bucket| bucket.hash == hash) {
                bucket
                    .entries
                    .iter()
                    .filter(|(filter, _)| filter.matches(message))
                    .for_each(|(_, value)| found(value));
            }
        }
    }

    fn key(&self, filter: &Filter) -> (FieldSet, u64) {
        let values = Values::of_filter(filter);
        let fields = values.fields();
        (fields, combine(fields.iter().map(|field| values.hash(&self.hasher, field))))
    }
}

impl<T> fmt::Debug for FilterIndex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterIndex").field("len", &self.len).field("field_sets", &self.shapes.len()).finish()
    }
}
