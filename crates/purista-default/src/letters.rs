//! The dead letters of a hub.

use std::collections::VecDeque;

use purista_core::{
    DeadLetter, DeadLetterId, Error, ErrorKind, KeptDeadLetter, Result,
    adapter::{DeadLetterReader, ReadFrom, async_trait},
};

use crate::Hub;

/// The letters, oldest first, each with its number. No number comes twice.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    kept: VecDeque<(u64, DeadLetter)>,
    next: u64,
}

impl Letters {
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn push(&mut self, letter: DeadLetter) {
        self.kept.push_back((self.next, letter));
        self.next += 1;
    }

    pub(crate) fn take(&mut self) -> Vec<DeadLetter> {
        self.kept.drain(..).map(|(_, letter)| letter).collect()
    }

    /// Returns the first letter of those with these numbers.
    fn first(&self, from: u64, before: u64) -> Option<(u64, DeadLetter)> {
        let position = self.kept.partition_point(|(number, _)| *number < from);
        self.kept.get(position).filter(|(number, _)| *number < before).cloned()
    }

    fn remove(&mut self, number: u64) {
        if let Ok(position) = self.kept.binary_search_by_key(&number, |(number, _)| *number) {
            self.kept.remove(position);
        }
    }
}

/// Reads the letters of a hub.
#[derive(Debug)]
pub(crate) struct Reader {
    hub: Hub,
    from: u64,
    before: u64,
}

impl Reader {
    pub(crate) fn open(hub: Hub, from: &ReadFrom) -> Result<Self> {
        let before = hub.letters().lock().next;
        let (from, before) = match from {
            ReadFrom::After(id) => (number(id)?.saturating_add(1), before),
            ReadFrom::At(id) => (number(id)?, before.min(number(id)?.saturating_add(1))),
            _ => (0, before),
        };
        Ok(Self { hub, from, before })
    }
}

#[async_trait]
impl DeadLetterReader for Reader {
    async fn next(&mut self) -> Result<Option<KeptDeadLetter>> {
        let found = self.hub.letters().lock().first(self.from, self.before);
        Ok(found.map(|(number, letter)| {
            self.from = number + 1;
            KeptDeadLetter::new(DeadLetterId::new(number.to_string()), letter)
        }))
    }

    async fn remove(&mut self) -> Result<()> {
        if let Some(last) = self.from.checked_sub(1) {
            self.hub.letters().lock().remove(last);
        }
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn number(id: &DeadLetterId) -> Result<u64> {
    id.as_str().parse().map_err(|error: std::num::ParseIntError| {
        Error::new(ErrorKind::InvalidConfig, "dead letters")
            .with_context(format!("{id} is the id of no dead letter"))
            .with_source(error)
    })
}
