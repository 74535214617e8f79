//! Reading dead letters, and what is done with them: all but how a broker gives and takes them.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{DeadLetter, Engine, Transport};
use crate::{
    capability::Capability,
    dead_letters::{
        DeadLetterFilter, DeadLetterId, DeadLetterPage, DeadLetters, KeptDeadLetter, RedriveOptions,
        RedriveReport, not_found,
    },
    error::{Error, ErrorKind, Result},
    grant::demand_for,
};

const OPERATION: &str = "dead letters";

/// How many letters a page has at the most.
const MAX_LIMIT: usize = 1_000;

/// After how many bytes of messages a page ends.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// After how many letters a page ends, if few of them match.
const MAX_LOOKED_AT: usize = 10_000;

/// Where a [`DeadLetterReader`] begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// At the first letter.
    Start,
    /// After the letter with this id; where it is gone, at the place where it was, or at the first letter.
    After(DeadLetterId),
    /// At the letter with this id; where it is gone, there is none.
    At(DeadLetterId),
}

/// Reads the dead letters at a broker, one after the other, and consumes none by that. What it has borrowed from the broker
/// is back there at the latest when it is dropped and its connection is idle.
#[async_trait]
pub trait DeadLetterReader: Send + 'static {
    /// Returns the next letter of those that were there when reading began, in the order of the broker. What is no letter
    /// is left out, and left there.
    async fn next(&mut self) -> Result<Option<KeptDeadLetter>>;

    /// Removes the letter that [`next`](Self::next) returned last. Returns after the broker did so, as far as it tells.
    async fn remove(&mut self) -> Result<()>;

    /// Ends it: the broker has everything back that is not removed.
    async fn close(self: Box<Self>) -> Result<()>;
}

pub(super) fn unsupported() -> Error {
    Error::new(ErrorKind::Unsupported(Capability::DeadLetterInspection), OPERATION)
}

/// The dead letters behind an engine.
#[derive(Debug)]
struct Inspection<T: Transport>(Weak<Engine<T>>);

impl<T: Transport> Engine<T> {
    pub(super) fn inspection(&self) -> Result<Arc<dyn DeadLetters>> {
        demand_for(OPERATION, true, Capability::DeadLetterInspection, &self.transport.capabilities())
            .map_err(|error| error.with_bridge(T::NAME))?;
        Ok(Arc::new(Inspection(Weak::clone(&self.itself))))
    }
}

impl<T: Transport> Inspection<T> {
    /// Reads on a task of its own, so that what is borrowed from the broker is given back, and what is sent is removed.
    async fn read<R: Send + 'static>(
        &self,
        from: ReadFrom,
        work: impl for<'a> FnOnce(&'a mut Walk<T>) -> BoxFuture<'a, Result<R>> + Send + 'static,
    ) -> Result<R> {
        let engine = self.0.upgrade().ok_or_else(|| Engine::<T>::error(ErrorKind::ShutDown, OPERATION))?;
        engine.check_usable(OPERATION)?;
        let ended = CancellationToken::new();
        // Whoever drops the future wants no more.
        let _ended_with_this = ended.clone().drop_guard();
        let home = Arc::clone(&engine.shared);
        let task = home.home.spawn(async move {
            let opening = engine.transport.read_dead_letters(from);
            let reader = engine.within_operation_timeout(OPERATION, opening).await?;
            let mut walk = Walk { engine, reader, ended };
            let result = work(&mut walk).await;
            let Walk { engine, reader, .. } = walk;
            if let Err(error) = engine.within_operation_timeout(OPERATION, reader.close()).await {
                tracing::debug!(bridge = T::NAME, %error, "a reader of dead letters could not be closed");
            }
            result
        });
        Engine::<T>::joined(task, OPERATION).await
    }

    /// Does something with one letter; `None` if it is not there.
    async fn with_letter<R: Send + 'static>(
        &self,
        id: &DeadLetterId,
        work: impl for<'a> FnOnce(&'a mut Walk<T>, KeptDeadLetter) -> BoxFuture<'a, Result<R>> + Send + 'static,
    ) -> Result<Option<R>> {
        let wanted = id.clone();
        self.read(ReadFrom::At(id.clone()), move |walk| {
            Box::pin(async move {
                match walk.next().await? {
                    Some(kept) if kept.id == wanted => work(walk, kept).await.map(Some),
                    _ => Ok(None),
                }
            })
        })
        .await
    }
}

#[async_trait]
impl<T: Transport> DeadLetters for Inspection<T> {
    async fn list(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&DeadLetterId>,
    ) -> Result<DeadLetterPage> {
        if !(1..=MAX_LIMIT).contains(&limit) {
            let context = format!("a page has 1 to {MAX_LIMIT} dead letters, not {limit}");
            return Err(Engine::<T>::error(ErrorKind::InvalidConfig, OPERATION).with_context(context));
        }
        let from = after.map_or(ReadFrom::Start, |id| ReadFrom::After(id.clone()));
        let filter = filter.clone();
        self.read(from, move |walk| Box::pin(walk.page(filter, limit))).await
    }

    async fn get(&self, id: &DeadLetterId) -> Result<Option<KeptDeadLetter>> {
        self.with_letter(id, |_walk, kept| Box::pin(std::future::ready(Ok(kept)))).await
    }

    async fn redrive(&self, id: &DeadLetterId, options: &RedriveOptions) -> Result<()> {
        let options = *options;
        let sent = self.with_letter(id, move |walk, kept| Box::pin(walk.send_again(kept.letter, options)));
        sent.await?.ok_or_else(|| not_found(id).with_bridge(T::NAME))
    }

    async fn redrive_all(
        &self,
        filter: &DeadLetterFilter,
        options: &RedriveOptions,
    ) -> Result<RedriveReport> {
        let (filter, options) = (filter.clone(), *options);
        self.read(ReadFrom::Start, move |walk| Box::pin(walk.send_all_again(filter, options))).await
    }

    async fn purge(&self, id: &DeadLetterId) -> Result<bool> {
        let purged = self.with_letter(id, |walk, _kept| Box::pin(walk.remove()));
        Ok(purged.await?.is_some())
    }

    async fn purge_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let filter = filter.clone();
        self.read(ReadFrom::Start, move |walk| Box::pin(walk.purge_all(filter))).await
    }
}

/// One way through the dead letters.
struct Walk<T: Transport> {
    engine: Arc<Engine<T>>,
    reader: Box<dyn DeadLetterReader>,
    /// Cancelled when nobody waits for it any more.
    ended: CancellationToken,
}

impl<T: Transport> Walk<T> {
    async fn next(&mut self) -> Result<Option<KeptDeadLetter>> {
        if self.ended.is_cancelled() || self.engine.closing.is_cancelled() {
            return Err(Engine::<T>::error(ErrorKind::ShutDown, OPERATION));
        }
        self.engine.within_operation_timeout(OPERATION, self.reader.next()).await
    }

    async fn remove(&mut self) -> Result<()> {
        self.engine.within_operation_timeout(OPERATION, self.reader.remove()).await
    }

    async fn page(&mut self, filter: DeadLetterFilter, limit: usize) -> Result<DeadLetterPage> {
        let mut page = DeadLetterPage::default();
        let (mut looked_at, mut bytes, mut last) = (0, 0, None);
        while let Some(kept) = self.next().await? {
            if page.letters.len() == limit || looked_at == MAX_LOOKED_AT || bytes >= MAX_PAGE_BYTES {
                page.next = last;
                break;
            }
            looked_at += 1;
            last = Some(kept.id.clone());
            if filter.matches(&kept.letter) {
                bytes += kept.letter.original.len();
                page.letters.push(kept);
            }
        }
        Ok(page)
    }

    /// Sends the letter that was read last to its subscriber; the letter goes only when the message is taken.
    async fn send_again(&mut self, mut letter: DeadLetter, options: RedriveOptions) -> Result<()> {
        if letter.redrives >= options.max_redrives {
            let context = format!("it was sent again {} times, as often as may be", letter.redrives);
            return Err(Engine::<T>::error(ErrorKind::RedriveLimit, OPERATION).with_context(context));
        }
        letter.redrives += 1;
        let sent = self.engine.transport.redeliver(letter);
        self.engine.within_operation_timeout(OPERATION, sent).await?;
        self.engine.shared.counters.redriven.increment();
        self.remove().await
    }

    async fn send_all_again(
        &mut self,
        filter: DeadLetterFilter,
        options: RedriveOptions,
    ) -> Result<RedriveReport> {
        let mut report = RedriveReport::default();
        loop {
            let sent = match self.next().await {
                Ok(None) => return Ok(report),
                Ok(Some(kept)) if !filter.matches(&kept.letter) => continue,
                Ok(Some(kept)) => self.send_again(kept.letter, options).await,
                Err(error) => Err(error),
            };
            match sent.map_err(|error| (error.kind(), error)) {
                Ok(()) => report.redriven += 1,
                Err((ErrorKind::RedriveLimit, _)) => report.over_limit += 1,
                Err((ErrorKind::Unroutable, _)) => report.without_subscriber += 1,
                Err((_, error)) => return Err(after(error, report.redriven, "were sent")),
            }
        }
    }

    async fn purge_all(&mut self, filter: DeadLetterFilter) -> Result<u64> {
        let mut purged = 0;
        loop {
            let removed = match self.next().await {
                Ok(None) => return Ok(purged),
                Ok(Some(kept)) if !filter.matches(&kept.letter) => continue,
                Ok(Some(_)) => self.remove().await,
                Err(error) => Err(error),
            };
            removed.map_err(|error| after(error, purged, "were removed"))?;
            purged += 1;
        }
    }
}

/// Tells what was done before it went wrong.
fn after(error: Error, letters: u64, what: &str) -> Error {
    match letters {
        0 => error,
        _ => error.and_context(format!("{letters} letters {what} before")),
    }
}
